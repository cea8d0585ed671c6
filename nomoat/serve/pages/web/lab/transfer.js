// How far the training carried: rings around the tasks that were trained.

import { h } from "../app/dom.js";
import { fixed, language, number, percent, t } from "../app/i18n.js";
import { rows } from "./rows.js";
import { table } from "./scores.js";
import { points, share, span } from "./words.js";

/** All of the report, where one was measured. */
export function transfer(run, link) {
  if (!run.transfer) return null;
  const { result, verdict } = run.transfer;
  return h(
    "div",
    { class: "stack wide-gap" },
    h("p", { class: "told small-told", text: language() === "en" ? verdict : told(result) }),
    rings(run, result, link),
    h("div", { class: "columns" }, tries(result), levels(result), form(result), prose(result)),
  );
}

/** The verdict in the language of the page: what became of the trained tasks, and how much of a gain carried. */
function told({ rings: list, after }) {
  const trained = list.find(({ part, delta }) => part === "trained tasks" && delta !== null);
  if (!trained) return t("carried.unmeasured");
  const clear = trained.low > 0 || trained.high < 0;
  const how = !clear ? "even" : trained.delta > 0 ? "more" : "less";
  const said = t(`carried.${how}`, {
    model: after,
    points: points(trained.delta),
    span: span(trained.low, trained.high),
  });
  const to = list
    .filter((row) => row !== trained && how === "more" && row.delta !== null && row.carry)
    .map((row) =>
      t("carried.to", {
        part: row.part,
        share: percent(row.carry[0]),
        low: percent(row.carry[1]),
        high: percent(row.carry[2]),
      }),
    );
  return `${said}${to.length ? ` ${t("carried.of")} ${to.join(", ")}.` : ""}`;
}

/** A row for each part of each ring: before, after, and how much of the gain carried. */
function rings(run, { rings: list, before, after, notes }, link) {
  const lines = [];
  let ring = null;
  for (const row of [...list].sort((a, b) => a.ring.localeCompare(b.ring))) {
    if (row.delta === null || row.after === null) continue;
    if (row.ring !== ring) {
      ring = row.ring;
      lines.push({ head: true, label: `${ring}  ${t(`ring.${ring}`)}` });
    }
    const clear = row.low > 0 || row.high < 0;
    const ink = !clear ? "series-7" : row.delta > 0 ? "accent" : "wrong";
    lines.push({
      label: row.part,
      value: row.after,
      before: row.before,
      ink,
      strong: clear,
      text: `${points(row.delta)} ${span(row.low, row.high)}`,
    });
  }
  const note = [t("rings.note", { before, after }), ...notes].join(" ");
  return rows({ title: t("rings"), run: run.name, link, note, kind: "wide" }, lines);
}

function tries({ pass, before, after }) {
  const lines = Object.entries(pass.at).map(([k, row]) => [
    k,
    share(row.before),
    share(row.after),
    `${points(row.delta)} ${span(row.low, row.high)}`,
  ]);
  return lines.length ? table(t("pass"), ["k", before, after, t("difference")], lines) : null;
}

function levels({ steps, before, after }) {
  const lines = Object.entries(steps).map(([up, [was, now]]) => [
    Number(up) ? `+${up}` : t("trained"),
    share(was),
    share(now),
  ]);
  return lines.length ? table(t("levels"), [t("level"), before, after], lines) : null;
}

function form({ form: values, honesty, before, after }) {
  const shown = (key, value) =>
    value === null || value === undefined
      ? ""
      : ["length", "ece", "brier"].includes(key)
        ? number(value)
        : percent(value);
  const keys = ["rate", "lenient", "ended", "language", "length", "gave", "refuses", "ece", "brier"];
  const lines = keys.map((key) => [
    t(`form.${key}`),
    ...(values[key] ?? [honesty[before]?.[key], honesty[after]?.[key]]).map((value) => shown(key, value)),
  ]);
  return table(t("form"), ["", before, after], lines);
}

function prose({ texts }) {
  const lines = Object.entries(texts).map(([model, { bpb }]) => [model, bpb === null ? "" : fixed(bpb)]);
  return table(t("bits"), [t("model"), t("bits.short")], lines, t("bits.note"));
}
