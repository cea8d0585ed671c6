// The load of each expert over the steps: a row an expert, even loads pale.

import { fill, h } from "../app/dom.js";
import { number, t } from "../app/i18n.js";
import { colour } from "../app/theme.js";
import { figure } from "./figure.js";

const ROW = 9;
const GAP = 16; // between layers
const LEFT = 62;
const FOOT = 26;
const MOST = 200; // percent of the mean, from which on a cell is as dark as can be

/**
 * @param {object} how as `figure`
 * @param {() => {steps: number[], values: number[][][]}} data percent of the mean, [step][layer][expert]
 */
export function heat(how, data) {
  const out = h("output", { class: "note" });
  const box = figure({ ...how, kind: "heat" }, (body, width) => {
    const loads = data();
    const layers = loads.values[0].map((layer) => layer.length);
    const height = layers.reduce((sum, n) => sum + n * ROW + GAP, 0) + FOOT;
    const canvas = h("canvas", {
      width: 2 * width,
      height: 2 * height,
      role: "img",
      "aria-label": how.title,
      style: { width: `${width}px`, height: `${height}px` },
    });
    canvas.addEventListener("mousemove", (event) => {
      out.textContent = under(event, loads, layers, width);
    });
    canvas.addEventListener("mouseleave", () => {
      out.textContent = t("load.scale");
    });
    paint(canvas.getContext("2d"), loads, layers, width);
    out.textContent = t("load.scale");
    fill(body, canvas, scale(), out);
    return () => canvas;
  });
  return box;
}

function paint(pen, { steps, values }, layers, width) {
  const cell = (width - LEFT) / steps.length;
  const inks = { less: rgb(colour("series-3")), more: rgb(colour("series-2")), even: rgb(colour("sunken")) };
  pen.scale(2, 2);
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  let y = 4;
  layers.forEach((n, layer) => {
    pen.fillStyle = colour("ink-3");
    pen.fillText(t("layer", { n: layer + 1 }), 0, y + (n * ROW) / 2 + 4);
    for (let step = 0; step < steps.length; step++) {
      for (let expert = 0; expert < n; expert++) {
        pen.fillStyle = shade(values[step][layer]?.[expert] ?? 100, inks);
        pen.fillRect(LEFT + step * cell, y + expert * ROW, Math.ceil(cell) + 0.4, ROW - 1);
      }
    }
    y += n * ROW + GAP;
  });
  pen.fillStyle = colour("ink-3");
  const last = t("step.n", { n: steps.at(-1) });
  pen.fillText(t("step.n", { n: steps[0] }), LEFT, y + 4);
  pen.fillText(last, width - pen.measureText(last).width, y + 4);
}

function shade(percent, { less, more, even }) {
  const strength = Math.min(Math.abs(percent - 100) / (percent > 100 ? MOST - 100 : 100), 1);
  const ink = percent > 100 ? more : less;
  return `rgb(${even.map((base, i) => Math.round(base + (ink[i] - base) * strength)).join(" ")})`;
}

/** "#0c6b61" as numbers. */
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function scale() {
  const marks = [0, 50, 100, 150, 200];
  const inks = { less: rgb(colour("series-3")), more: rgb(colour("series-2")), even: rgb(colour("sunken")) };
  const cells = marks.map((mark) => h("span", { style: { background: shade(mark, inks) } }));
  return h(
    "p",
    { class: "scale", "aria-hidden": "true" },
    h("b", { text: t("load.none") }),
    cells,
    h("b", { text: t("load.double") }),
  );
}

function under(event, { steps, values }, layers, width) {
  const step = Math.floor((event.offsetX - LEFT) / ((width - LEFT) / steps.length));
  let y = 4;
  for (let layer = 0; layer < layers.length; layer++) {
    const expert = Math.floor((event.offsetY - y) / ROW);
    if (expert >= 0 && expert < layers[layer] && steps[step] !== undefined) {
      const percent = `${number(values[step][layer][expert])} %`;
      return t("load.here", { layer: layer + 1, expert: expert + 1, step: steps[step], percent });
    }
    y += layers[layer] * ROW + GAP;
  }
  return t("load.scale");
}
