// A figure: its title, its legend, its picture to keep, and when it is drawn.

import { download, h } from "../app/dom.js";
import { icon } from "../app/icons.js";
import { t } from "../app/i18n.js";
import { colour } from "../app/theme.js";

const SCALE = 2; // pixels of a saved picture for one on the screen
const live = new Set();

document.addEventListener("themechange", () => {
  for (const each of live) {
    if (each.body.isConnected) each.draw();
    else live.delete(each);
  }
});

export const slug = (text) =>
  text
    .toLowerCase()
    .normalize("NFKD")
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");

/**
 * A figure with a name.
 * @param {{title: string, run: string, link?: string, note?: string, legend?: {label: string, colour: string}[],
 *   kind?: string, about?: string}} how `link` leads to it, `about` tells what it shows to who can't see it
 * @param {(body: HTMLElement, width: number) => (() => Promise<CanvasImageSource> | CanvasImageSource)} draw
 *   draws into the body and gives what makes a picture of it
 */
export function figure({ title, run, link, note, legend = [], kind = "", about }, draw) {
  const body = h("div", { class: "drawing" });
  const said = h("p", { class: "legend" }, legend.map(entry));
  const save = h(
    "button",
    {
      class: "icon-button save",
      title: t("save.picture"),
      "aria-label": `${t("save.picture")}: ${title}`,
      on: { click: () => kept().catch(() => {}) },
    },
    icon("save", 18),
  );
  const name = link ? h("a", { href: link, text: title }) : title;
  const box = h(
    "figure",
    {
      class: `figure ${kind}`,
      id: `figure-${slug(title)}`,
      "aria-label": about ? `${title}: ${about}` : title,
    },
    h("figcaption", null, h("h3", null, name), save),
    legend.length ? said : null,
    body,
    note && h("p", { class: "note", text: note }),
  );
  let picture = null;
  let width = 0;
  const it = {
    body,
    legend: said,
    draw: () => {
      if (width) picture = draw(body, width);
    },
  };
  const kept = async () => {
    const image = await composed(title, run, [...said.children], await picture());
    image.toBlob((blob) => download(`${slug(run)}-${slug(title)}.png`, blob, "image/png"), "image/png");
  };
  new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (now === width || !now) return;
    width = now;
    it.draw();
  }).observe(body);
  live.add(it);
  return box;
}

/** One entry of a legend. */
export function entry({ label, colour: ink }) {
  return h(
    "span",
    { class: "key" },
    h("i", { style: { background: ink }, "aria-hidden": "true" }),
    h("b", { text: label }),
    h("output"),
  );
}

/** The picture with its title and legend on the ground of the page. */
async function composed(title, run, keys, image) {
  const [wide, high] = [image.width / SCALE, image.height / SCALE];
  const head = keys.length ? 78 : 52;
  const canvas = h("canvas", { width: SCALE * (wide + 48), height: SCALE * (high + head + 44) });
  const pen = canvas.getContext("2d");
  const font = getComputedStyle(document.body).fontFamily;
  pen.scale(SCALE, SCALE);
  pen.fillStyle = colour("raised");
  pen.fillRect(0, 0, wide + 48, high + head + 44);
  pen.fillStyle = colour("ink");
  pen.font = `600 16px ${font}`;
  pen.fillText(title, 24, 34);
  let x = 24;
  for (const key of keys) {
    const label = key.querySelector("b").textContent;
    pen.fillStyle = getComputedStyle(key.querySelector("i")).backgroundColor;
    pen.fillRect(x, 53, 12, 4);
    pen.fillStyle = colour("ink-2");
    pen.font = `13px ${font}`;
    pen.fillText(label, x + 18, 59);
    x += 36 + pen.measureText(label).width;
  }
  pen.drawImage(image, 24, head, wide, high);
  pen.fillStyle = colour("ink-3");
  pen.font = `12px ${font}`;
  pen.fillText(`${run} · nomoat`, 24, high + head + 26);
  return canvas;
}

/** A drawing of SVG as an image. */
export async function rastered(drawing, width, height) {
  const copy = drawing.cloneNode(true);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  const url = URL.createObjectURL(
    new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }),
  );
  const image = new Image();
  try {
    await new Promise((done, failed) => {
      image.onload = done;
      image.onerror = failed;
      image.src = url;
    });
    const canvas = h("canvas", { width: SCALE * width, height: SCALE * height });
    const pen = canvas.getContext("2d");
    pen.drawImage(image, 0, 0, SCALE * width, SCALE * height);
    return canvas;
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** A table as an image: cells with their grounds, their texts where they stand. */
export function pictured(table) {
  const frame = table.getBoundingClientRect();
  const canvas = h("canvas", {
    width: Math.ceil(SCALE * frame.width),
    height: Math.ceil(SCALE * frame.height),
  });
  const pen = canvas.getContext("2d");
  pen.scale(SCALE, SCALE);
  pen.textBaseline = "middle";
  for (const cell of table.querySelectorAll("th, td")) {
    const place = cell.getBoundingClientRect();
    const style = getComputedStyle(cell);
    const [x, y] = [place.left - frame.left, place.top - frame.top];
    pen.fillStyle = style.backgroundColor;
    pen.fillRect(x, y, place.width, place.height);
    pen.fillStyle = style.color;
    pen.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    const centre = style.textAlign === "center";
    const end = style.textAlign === "end" || style.textAlign === "right";
    pen.textAlign = centre ? "center" : end ? "right" : "left";
    const at = centre
      ? x + place.width / 2
      : end
        ? x + place.width - parseFloat(style.paddingRight)
        : x + parseFloat(style.paddingLeft);
    pen.fillText(cell.textContent, at, y + place.height / 2);
  }
  return canvas;
}
