// What a run cost, beside its plan and beside what others published.

import { h, svg, fill } from "../app/dom.js";
import { number, percent, t } from "../app/i18n.js";
import { colour } from "../app/theme.js";
import { figure, rastered } from "./figure.js";
import { rows } from "./rows.js";
import { table } from "./scores.js";
import { big, coins, time } from "./words.js";

/** The receipt as a table. */
export function receipt(run) {
  const { rows: lines, total, prices_date: date } = run.receipt;
  const again = total.redone_seconds > 0;
  const cells = (row, name) => [
    name,
    big(row.tokens),
    big(row.flops_model),
    big(row.flops_executed),
    time(row.device_seconds),
    ...(again ? [row.redone_seconds ? time(row.redone_seconds) : ""] : []),
    big(row.joules, "J"),
    coins(row.money, row.currency),
    row.bought,
  ];
  const header = [
    "stage",
    "tokens",
    "flops",
    "executed",
    "device",
    ...(again ? ["redone"] : []),
    "energy",
    "money",
    "bought",
  ].map((key) => t(`cost.${key}`));
  const last = header.length - 1;
  const line = (list, tag = "td") =>
    list.map((text, i) =>
      h(i ? tag : "th", {
        class: i && i < last ? "number" : i ? "words" : null,
        scope: tag === "th" ? "col" : i ? null : "row",
        text,
      }),
    );
  const title = t("receipt");
  return h(
    "section",
    { class: "card wide" },
    h("h2", { text: title }),
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "group", "aria-label": title },
      h(
        "table",
        { class: "receipt" },
        h("thead", null, h("tr", null, line(header, "th"))),
        h(
          "tbody",
          null,
          lines.map((row) => h("tr", null, line(cells(row, row.stage)))),
        ),
        h("tfoot", null, h("tr", null, line(cells(total, t("total"))))),
      ),
    ),
    h("p", { class: "note", text: sources(run.receipt, date) }),
  );
}

function sources({ total, watts, per_kwh: kwh, per_hour: hours, machines, lineage }, date) {
  const where = machines.map(({ device, units }) => `${units} × ${device}`).join(", ");
  const drawn = Object.entries(watts)
    .map(([name, value]) => t("watts", { n: number(value), device: name }))
    .join(", ");
  const energy = total.joules_source.includes("estimated")
    ? t("energy.estimated", { watts: drawn })
    : t("energy.measured");
  const rent = Object.entries(hours)
    .filter(([, value]) => value)
    .map(([name, value]) => t("per.hour", { money: coins(value, total.currency), device: name }));
  const said = [t("sources", { energy, where, date, kwh: coins(kwh, total.currency) }), ...rent];
  if (lineage.length) said.push(t("lineage", { changes: lineage.join("; ") }));
  return said.join(" ");
}

/** Each stage's time as a multiple of its plan, which is one. */
export function against(run, link) {
  const lines = run.plan.filter((line) => line.took?.seconds && line.seconds && line.state === "finished");
  if (!lines.length) return null;
  const list = lines.map((line) => {
    const ratio = line.took.seconds / line.seconds;
    const within = line.took.seconds >= line.low_seconds && line.took.seconds <= line.high_seconds;
    return {
      label: line.stage,
      value: Math.log2(ratio),
      low: Math.log2(line.low_seconds / line.seconds),
      high: Math.log2(line.high_seconds / line.seconds),
      text: t("plan.row", { took: time(line.took.seconds), planned: time(line.seconds) }),
      ink: within ? "accent" : "series-2",
      strong: !within,
    };
  });
  const form = (value) => `${number(2 ** value)} ×`;
  return rows(
    {
      title: t("plan"),
      run: run.name,
      link,
      note: t("plan.note"),
      domain: [-2, 2],
      marks: [-2, -1, 0, 1, 2],
      form,
      zero: 0,
    },
    list,
  );
}

/** Tokens, operations and joules beside the plan. */
export function planned(run) {
  if (!run.plan.length) return null;
  const ratio = (took, plan) => (took && plan ? `${number(took / plan, 2)} ×` : "");
  const lines = run.plan
    .filter(({ took }) => took)
    .map(({ stage, took, ...plan }) => [
      stage,
      time(took.seconds),
      time(plan.seconds),
      ratio(took.seconds, plan.seconds),
      ratio(took.tokens, plan.tokens),
      ratio(took.flops, plan.flops),
      ratio(took.joules, plan.joules),
    ]);
  const header = ["stage", "took", "planned", "of.time", "of.tokens", "of.flops", "of.energy"].map((key) =>
    t(`cost.${key}`),
  );
  return lines.length ? table(t("plan.table"), header, lines, t("plan.table.note")) : null;
}

/** Where the device time went, beside DeepSeek's published hours. */
export function shares(run, link) {
  const parts = run.receipt.shares.filter(({ ours, theirs }) => ours || theirs);
  if (!run.receipt.shares.some(({ ours }) => ours)) return null;
  const legend = parts.map(({ part }, i) => ({ label: t(`part.${part}`), colour: `var(--series-${i + 1})` }));
  return figure(
    {
      title: t("shares"),
      run: run.name,
      link,
      legend,
      note: t("shares.note"),
      about: parts
        .map(
          ({ part, ours, theirs }) =>
            `${t(`part.${part}`)} ${percent(ours ?? 0)}, DeepSeek ${percent(theirs)}`,
        )
        .join("; "),
    },
    (body, width) => {
      const height = 132;
      const drawing = svg("svg", {
        width,
        height,
        viewBox: `0 0 ${width} ${height}`,
        role: "img",
        "aria-label": t("shares"),
        "font-family": getComputedStyle(document.body).fontFamily,
        "font-size": 13,
      });
      drawing.append(
        ...bar(t("this.run"), parts, "ours", 0, width),
        ...bar("DeepSeek", parts, "theirs", 66, width),
      );
      fill(body, drawing);
      return () => rastered(drawing, width, height);
    },
  );
}

function bar(name, parts, key, y, width) {
  let x = 0;
  const drawn = [svg("text", { x: 0, y: y + 13, fill: colour("ink-2"), "font-weight": 600 }, name)];
  parts.forEach((part, i) => {
    const wide = (part[key] ?? 0) * width;
    if (wide < 0.5) return;
    const label = `${t(`part.${part.part}`)} ${percent(part[key])}`;
    drawn.push(
      svg("rect", {
        x,
        y: y + 21,
        width: Math.max(wide - 2, 1),
        height: 34,
        rx: 5,
        fill: colour(`series-${i + 1}`),
      }),
    );
    if (wide > 7.2 * label.length + 14)
      drawn.push(svg("text", { x: x + 10, y: y + 42, fill: colour("ground") }, label));
    x += wide;
  });
  return drawn;
}
