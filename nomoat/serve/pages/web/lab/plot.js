// Curves over the steps, drawn by uPlot: each faint as it is, and on it a running mean.

import uPlot from "../vendor/uplot.js";
import { fill } from "../app/dom.js";
import { language, number, percent } from "../app/i18n.js";
import { colour } from "../app/theme.js";
import { figure } from "./figure.js";
import { big } from "./words.js";

const HEIGHT = 224;
const FEW = 60; // points that are drawn as they are
const FORMS = {
  plain: (value) => number(value),
  log: (value) => (value > 0 && value < 0.001 ? value.toExponential(0).replace("-", "−") : number(value, 2)),
  percent: (value) => percent(value),
  bits: (value) => number(value),
};

/** Means of the values around each, over a twentieth of all. */
export function smooth(values) {
  const half = Math.max(1, Math.floor(values.length / 40));
  let sum = 0;
  let n = 0;
  const add = (value, sign) => {
    if (value === null || value === undefined) return;
    sum += sign * value;
    n += sign;
  };
  for (let i = 0; i < Math.min(half, values.length); i++) add(values[i], 1);
  return values.map((value, i) => {
    add(values[i + half], 1);
    add(values[i - half - 1], -1);
    return value === null || value === undefined || n === 0 ? null : sum / n;
  });
}

/**
 * A figure of curves.
 * @param {object} how as `figure`; `axis` "plain", "log", "percent" or "bits" (nats, drawn as bits); `floor`: where it begins
 * @param {() => {steps: number[], curves: {label: string, ink: string, values: (number|null)[]}[]}} data what is drawn now
 * @returns {HTMLElement & {again: () => void}} `again` takes in what the data has more
 */
export function plot({ axis = "plain", floor = null, sync, ...how }, data) {
  const first = data();
  const inks = first.curves.map(({ ink }) => `var(--${ink})`);
  let chart = null;
  const legend =
    first.curves.length > 1 ? first.curves.map(({ label }, i) => ({ label, colour: inks[i] })) : [];
  const box = figure(
    { ...how, legend, about: told(first, axis), kind: `curves ${how.kind ?? ""}` },
    (body, width) => {
      chart?.destroy();
      fill(body);
      const { columns, options } = prepared(data(), axis, floor, width, sync, readout(box));
      chart = new uPlot(options, columns, body);
      return () => chart.ctx.canvas;
    },
  );
  box.again = () => chart?.setData(columnsOf(data(), axis));
  return box;
}

const scaled = (values, axis) =>
  axis === "bits"
    ? values.map((v) => (v === null ? null : v / Math.LN2))
    : axis === "log"
      ? values.map((v) => (v > 0 ? v : null))
      : values;

function columnsOf({ steps, curves }, axis) {
  const columns = [steps];
  for (const { values } of curves) {
    const shown = scaled(values, axis);
    columns.push(shown, steps.length < FEW ? shown : smooth(shown));
  }
  return columns;
}

function prepared(data, axis, floor, width, sync, onCursor) {
  const columns = columnsOf(data, axis);
  const few = data.steps.length < FEW;
  const series = [{}];
  for (const { ink } of data.curves) {
    const stroke = colour(ink);
    series.push({ stroke, width: 1, alpha: few ? 0 : 0.26, points: { show: false }, spanGaps: true });
    series.push({
      stroke,
      width: 2,
      points: { show: data.steps.length < 20, size: 5, fill: stroke },
      spanGaps: true,
    });
  }
  const text = `12px ${getComputedStyle(document.body).fontFamily}`;
  const line = { stroke: colour("ink-3"), font: text, ticks: { show: false }, labelFont: text };
  const range = axis === "percent" ? [0, 1] : null;
  const form = FORMS[axis];
  return {
    columns,
    options: {
      width,
      height: HEIGHT,
      padding: [10, 18, 0, 0],
      legend: { show: false },
      series,
      cursor: {
        y: false,
        points: { show: false },
        sync: sync ? { key: sync, setSeries: false } : undefined,
        drag: { x: true, y: false },
      },
      scales: {
        x: { time: false },
        y: {
          distr: axis === "log" ? 3 : 1,
          range: range ?? ((u, low, high) => ranged(u, low, high, axis, floor)),
        },
      },
      axes: [
        {
          ...line,
          size: 30,
          gap: 6,
          grid: { show: false },
          values: (u, marks) => marks.map((mark) => (Number.isInteger(mark) ? big(mark) : "")),
        },
        {
          ...line,
          size: 52,
          gap: 6,
          grid: { stroke: colour("line"), width: 1 },
          values: (u, marks) => marks.map((mark) => (mark === null ? "" : form(mark))),
        },
      ],
      hooks: { setCursor: [(u) => onCursor(u.cursor.idx, u.data, form)] },
    },
  };
}

function ranged(u, low, high, axis, floor) {
  if (low === null || high === null) return axis === "log" ? [0.1, 10] : [0, 1];
  if (axis === "log") return low === high ? [low / 2, high * 2] : [low / 1.1, high * 1.1];
  const room = 0.06 * (high - low) || 0.1 * Math.abs(high) || 1;
  return [floor === null ? low - room : Math.min(floor, low), high + room];
}

/** Writes the values under the cursor into the legend. */
function readout(box) {
  return (at, columns, form) => {
    const outs = box?.querySelectorAll?.(".legend output") ?? [];
    outs.forEach((out, i) => {
      const value = at === null || at === undefined ? null : columns[2 * i + 2][at];
      out.textContent = value === null || value === undefined ? "" : form(value);
    });
  };
}

/** For who can't see the curve: where it began, where it is. */
function told({ steps, curves }, axis) {
  const said = curves.map(({ label, values }) => {
    const known = smooth(scaled(values, axis)).filter((value) => value !== null);
    return known.length ? `${label} ${FORMS[axis](known[0])} → ${FORMS[axis](known.at(-1))}` : label;
  });
  const list = new Intl.ListFormat(language()).format(said);
  return steps.length ? `${list} (${steps[0]}–${steps.at(-1)})` : list;
}
