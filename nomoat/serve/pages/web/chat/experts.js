// Which experts a token went to, and how all tokens of an answer spread over them.

import { h, svg } from "../app/dom.js";
import { percent, t } from "../app/i18n.js";

const CELL = 10;

/** Rows are layers, columns experts; those that fired are filled, by their weight. */
export function expertStrip({ experts, weights }, { n_routed: n }) {
  const cells = experts.flatMap((layer, row) =>
    layer.map((expert, k) => cell(row, expert, weights?.[row]?.[k] ?? 1)),
  );
  const said = experts
    .map((layer, row) => `${t("experts.layer", { n: row + 1 })}: ${layer.join(", ")}`)
    .join("; ");
  return figure(t("experts.token"), said, experts.length, n, cells);
}

/** How often each expert of each layer fired over all tokens of an answer. */
export function heatStrip(tokens, { n_routed: n }) {
  const rows = [];
  let counted = 0;
  for (const { experts } of tokens) {
    if (!experts?.length) continue;
    counted += 1;
    experts.forEach((layer, row) => {
      rows[row] ??= new Array(n).fill(0);
      for (const expert of layer) rows[row][expert] += 1;
    });
  }
  if (!counted) return null;
  const most = Math.max(...rows.flat());
  const cells = rows.flatMap((row, y) =>
    row.map((count, x) => cell(y, x, count / most, percent(count / counted))),
  );
  const busiest = rows
    .map((row, y) => `${t("experts.layer", { n: y + 1 })}: ${row.indexOf(Math.max(...row))}`)
    .join("; ");
  return figure(t("experts.answer"), `${t("experts.busiest")} ${busiest}`, rows.length, n, cells);
}

function cell(row, column, share, said = null) {
  const place = { x: column * CELL + 1, y: row * CELL + 1, width: CELL - 2, height: CELL - 2, rx: 2 };
  return svg(
    "rect",
    { class: "fired", ...place, "fill-opacity": Math.max(0.04, Math.min(1, share)).toFixed(3) },
    said && svg("title", { text: said }),
  );
}

function figure(title, said, n_rows, n_columns, cells) {
  const ground = [];
  for (let y = 0; y < n_rows; y += 1) {
    ground.push(
      svg("rect", {
        class: "expert-row",
        x: 0,
        y: y * CELL,
        width: n_columns * CELL,
        height: CELL - 0.5,
        rx: 2,
      }),
    );
  }
  const box = svg(
    "svg",
    {
      class: "experts",
      viewBox: `0 0 ${n_columns * CELL} ${n_rows * CELL}`,
      role: "img",
      "aria-label": said,
    },
    ground,
    cells,
  );
  box.style.setProperty("max-inline-size", `${n_columns * 1.1}rem`);
  return h("figure", { class: "expert-figure" }, h("figcaption", { class: "small muted", text: title }), box);
}
