// Rows with a name, a value and its interval: each is told apart by what stands beside it.

import { fill, svg } from "../app/dom.js";
import { percent } from "../app/i18n.js";
import { colour } from "../app/theme.js";
import { figure, rastered } from "./figure.js";

const NARROW = 460; // pixels, below which a name stands over its row

/**
 * @param {object} how as `figure`; `domain` [low, high], `marks` where lines stand, `form` of these, `zero` a line
 * @param {{label: string, sub?: string, value: number, low?: number, high?: number, before?: number, text: string,
 *   more?: string, ink?: string, strong?: boolean, head?: boolean}[]} rows `before` is joined with the value; `head` is
 *   a title; `more` stands behind the text, in a column of its own
 */
export function rows(
  { domain = [0, 1], marks = [0, 0.25, 0.5, 0.75, 1], form = percent, zero = null, ...how },
  list,
) {
  const about = list
    .filter((row) => !row.head)
    .map((row) => `${row.label} ${row.text}`)
    .join("; ");
  return figure({ ...how, about, kind: `rows ${how.kind ?? ""}` }, (body, width) => {
    const place = placed(list, width);
    const drawing = svg("svg", {
      width,
      height: place.height,
      viewBox: `0 0 ${width} ${place.height}`,
      role: "img",
      "aria-label": how.title,
      "font-family": getComputedStyle(document.body).fontFamily,
      "font-size": 13,
    });
    const x = (value) =>
      place.left + ((clamped(value, domain) - domain[0]) / (domain[1] - domain[0])) * place.span;
    drawing.append(...grid({ marks, form, zero }, x, place));
    list.forEach((row, i) => drawing.append(...(row.head ? title(row, place, i) : drawn(row, place, i, x))));
    fill(body, drawing);
    return () => rastered(drawing, width, place.height);
  });
}

const clamped = (value, [low, high]) => Math.min(Math.max(value, low), high);

function placed(list, width) {
  const narrow = width < NARROW;
  const longest = Math.max(...list.map(({ label, head }) => (head ? 0 : label.length)));
  const left = narrow ? 6 : Math.min(7.9 * longest + 18, 0.38 * width);
  const said = Math.max(...list.map(({ text }) => (text ?? "").length));
  const more = Math.max(...list.map((row) => (row.more ? 7.2 * row.more.length + 14 : 0)));
  const right = narrow ? 10 : Math.min(7.8 * said + 16 + more, 0.5 * width);
  const step = narrow ? 46 : 30;
  return {
    narrow,
    left,
    right,
    width,
    step,
    more,
    span: width - left - right - 4,
    height: list.length * step + 26,
  };
}

function grid({ marks, form, zero }, x, { height, step, narrow }) {
  const drawn = [];
  const anchors = marks.map((_, i) =>
    !narrow || (i && i < marks.length - 1) ? "middle" : i ? "end" : "start",
  );
  for (const [i, mark] of marks.entries()) {
    const strong = mark === zero;
    drawn.push(
      svg("line", {
        x1: x(mark),
        x2: x(mark),
        y1: 0,
        y2: height - 22,
        stroke: colour(strong ? "line-strong" : "line"),
      }),
    );
    drawn.push(
      svg(
        "text",
        { x: x(mark), y: height - 6, fill: colour("ink-3"), "font-size": 11.5, "text-anchor": anchors[i] },
        form(mark),
      ),
    );
  }
  return step ? drawn : [];
}

function title({ label }, { step }, i) {
  return [
    svg(
      "text",
      { x: 0, y: i * step + step - 9, fill: colour("ink-3"), "font-size": 12, "font-weight": 600 },
      label,
    ),
  ];
}

function drawn(row, { narrow, left, width, step, more }, i, x) {
  const ink = colour(row.ink ?? "accent");
  const y = i * step + (narrow ? 33 : step / 2);
  const words = narrow ? y - 14 : y + 4.5;
  const parts = [
    svg(
      "text",
      {
        x: narrow ? 6 : left - 14,
        y: words,
        fill: colour("ink"),
        "text-anchor": narrow ? "start" : "end",
        "font-weight": row.strong ? 650 : 400,
      },
      row.label,
    ),
    svg(
      "text",
      {
        x: width - 4 - more,
        y: words,
        fill: colour("ink-2"),
        "text-anchor": "end",
        "font-weight": row.strong ? 650 : 400,
      },
      row.text,
    ),
    row.more &&
      svg(
        "text",
        { x: width - 4, y: words, fill: colour("ink-3"), "text-anchor": "end", "font-size": 12 },
        row.more,
      ),
  ];
  if (row.before !== undefined && row.before !== null) {
    parts.push(
      svg("line", {
        x1: x(row.before),
        x2: x(row.value),
        y1: y,
        y2: y,
        stroke: ink,
        "stroke-width": 2,
        opacity: 0.5,
      }),
    );
    parts.push(
      svg("circle", {
        cx: x(row.before),
        cy: y,
        r: 4.5,
        fill: colour("raised"),
        stroke: ink,
        "stroke-width": 2,
      }),
    );
  }
  if (row.low !== undefined && row.low !== null) {
    parts.push(
      svg("line", {
        x1: x(row.low),
        x2: x(row.high),
        y1: y,
        y2: y,
        stroke: ink,
        "stroke-width": 6,
        opacity: 0.26,
        "stroke-linecap": "round",
      }),
    );
  }
  if (row.value !== null && row.value !== undefined)
    parts.push(svg("circle", { cx: x(row.value), cy: y, r: row.strong ? 6 : 5, fill: ink }));
  return parts.filter(Boolean);
}
