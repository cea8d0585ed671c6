// A stage: its curves, the load of its experts, whether it learns.

import { h } from "../app/dom.js";
import { icon } from "../app/icons.js";
import { familyName, t } from "../app/i18n.js";
import { heat } from "./heat.js";
import { plot } from "./plot.js";
import { at, done } from "./story.js";
import { chip, does, field, sentence, time } from "./words.js";

/** What is drawn: title, axis, fields; `each`: a curve of every family or level. */
const CHARTS = {
  plain: [
    { title: "loss", axis: "bits", fields: ["loss", "mtp_loss"] },
    { title: "reward", axis: "percent", fields: ["reward"] },
    { title: "grad_norm", axis: "log", fields: ["grad_norm"] },
    { title: "load_max", floor: 1, fields: ["load_max"] },
    { title: "tokens_per_second", floor: 0, fields: ["tokens_per_second"] },
    { title: "lr", floor: 0, fields: ["lr"] },
  ],
  rl: [
    { title: "reward", axis: "percent", fields: ["reward", "lenient"] },
    { title: "rewards", axis: "percent", each: "rewards/" },
    { title: "length", floor: 0, fields: ["length", "length_right", "length_wrong"] },
    { title: "entropy", floor: 0, fields: ["entropy"] },
    { title: "kl", floor: 0, fields: ["kl"] },
    { title: "dead", axis: "percent", fields: ["dead_groups", "truncated", "shadow"] },
    { title: "grad_norm", axis: "log", fields: ["grad_norm"] },
    { title: "drift", axis: "log", fields: ["drift"] },
    { title: "seconds", floor: 0, fields: ["sample_seconds", "update_seconds"] },
    { title: "levels", axis: "percent", each: "levels/" },
  ],
};
const MOST_CURVES = 7; // of one chart, as many as there are colours
export const KEY = { rl: "reward" }; // of the chart that says most of a kind of stage

/** The charts of a stage, as far as its records have them; `again()` on each takes in what is new. */
export function charts(run, stage, curve, link, only = null) {
  const wanted = CHARTS[stage.kind === "rl" ? "rl" : "plain"].filter(
    ({ title }) => only === null || only.includes(title),
  );
  return wanted.flatMap((chart) => drawn(run, stage, curve, chart, link));
}

/** "addition/2" as "Addition/2". */
const kindOf = (name) => {
  const [family, ...level] = name.split("/");
  return [familyName(family), ...level].join("/");
};

function drawn(run, stage, curve, chart, link) {
  const names = chart.each
    ? Object.keys(curve.fields)
        .filter((name) => name.startsWith(chart.each))
        .sort()
    : chart.fields.filter((name) => curve.fields[name]?.some((value) => value !== null));
  const parts = [];
  for (let i = 0; i < names.length; i += MOST_CURVES) parts.push(names.slice(i, i + MOST_CURVES));
  return parts.map((part, i) => {
    const title = `${stage.name}: ${t(`chart.${chart.title}`)}${parts.length > 1 ? ` (${i + 1})` : ""}`;
    const label = (name) => (chart.each ? kindOf(name.slice(chart.each.length)) : field(name));
    const how = {
      title,
      run: run.name,
      link: link(chart.title),
      axis: chart.axis,
      floor: chart.floor,
      sync: `${run.name}/${stage.name}`,
    };
    return plot(how, () => ({
      steps: curve.steps,
      curves: part.map((name, j) => ({
        label: label(name),
        ink: `series-${j + 1}`,
        values: curve.fields[name] ?? [],
      })),
    }));
  });
}

/** The heat map of the experts, where the log has their loads. */
export function experts(run, stage, curve, link) {
  if (!curve.loads?.values.length) return null;
  return heat(
    { title: `${stage.name}: ${t("chart.loads")}`, run: run.name, link: link("loads") },
    () => curve.loads,
  );
}

/** The line over a stage's charts: what it is, how far, how long. */
export function banner(stage) {
  return h(
    "div",
    { class: "stage-banner", dataset: { stage: stage.name } },
    h(
      "div",
      { class: "row" },
      h("h2", { text: stage.name }),
      chip(stage.state),
      h("span", { class: "muted", text: does(stage.kind) }),
    ),
    h(
      "div",
      { class: "row" },
      h("span", { class: "bar wide" }, h("i", { style: { "inline-size": `${100 * done(stage)}%` } })),
      h("span", { class: "stage-at number", text: at(stage) }),
      stage.planned_seconds
        ? h("span", { class: "muted small", text: t("planned.n", { time: time(stage.planned_seconds) }) })
        : null,
    ),
    stage.bought ? h("p", { class: "muted small", text: t("bought", { what: stage.bought }) }) : null,
  );
}

const SIGNS = { good: "done", look: "search", bad: "cross" };

/** Is it learning?  The verdict, and the setting that each finding leads to. */
export function learning({ stage, findings, steps }) {
  if (!steps) return null;
  const setting = (name) => h("code", { class: "setting", text: name });
  const one = (finding) =>
    h(
      "li",
      { class: `finding ${finding.severity}` },
      icon(SIGNS[finding.severity], 18),
      h(
        "div",
        null,
        h("p", { text: sentence(finding) }),
        finding.setting
          ? h("p", { class: "small muted" }, t("setting"), " ", finding.setting.split(", ").map(setting))
          : null,
      ),
    );
  const worst = findings[0]?.severity ?? "look";
  return h(
    "section",
    { class: "learning card", id: `learning-${stage}`, "aria-label": t("learning", { stage }) },
    h(
      "h2",
      null,
      t("learning", { stage }),
      h("span", { class: `chip ${worst}` }, h("i", { "aria-hidden": "true" }), t(`learning.${worst}`)),
    ),
    findings.length
      ? h("ul", { class: "findings" }, findings.map(one))
      : h("p", { text: t("learning.none") }),
  );
}
