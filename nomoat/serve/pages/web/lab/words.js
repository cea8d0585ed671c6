// How the lab says things: names, figures, texts that a model wrote.

import { h } from "../app/dom.js";
import { icon } from "../app/icons.js";
import { has, language, money, number, percent, seconds, t } from "../app/i18n.js";

/** A text that a model or a file wrote, with what can't be seen made visible. */
export function plain(text) {
  return String(text ?? "").replace(
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** 83.4 as "83 %", small shares with a digit. */
export const share = (value) => (value === null || value === undefined ? "–" : percent(value));

/** A difference of shares in points: "+12", "−3.4". */
export function points(delta) {
  const value = Math.abs(100 * delta);
  return `${delta < 0 ? "−" : "+"}${number(value >= 10 ? Math.round(value) : Math.round(10 * value) / 10)}`;
}

/** "[20, 25]" in points. */
export const span = (low, high) => `[${points(low)}, ${points(high)}]`;

/** "81–85 %". */
export const between = ({ low, high }) =>
  `${number(Math.round(100 * low))}–${percent(Math.round(100 * high) / 100)}`;

/** Time with its unit, a dash where there is none. */
export const time = (value) => (value === null || value === undefined ? "–" : seconds(value));

export function coins(value, currency) {
  return value > 0 && value < 0.0001 ? `< ${money(0.0001, currency)}` : money(value, currency);
}

/** 1.23e12 as "1.23 T", and beyond that with its power of ten. */
export function big(value, unit = "") {
  if (value === null || value === undefined) return "–";
  for (const [power, prefix] of [
    [15, null],
    [12, "T"],
    [9, "G"],
    [6, "M"],
    [3, "k"],
  ]) {
    if (Math.abs(value) < 10 ** power) continue;
    if (prefix) return `${number(value / 10 ** power)} ${prefix}${unit}`;
    const exponent = Math.floor(Math.log10(value));
    return `${number(value / 10 ** exponent)} · 10${[...String(exponent)].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")} ${unit}`;
  }
  return `${number(value)} ${unit}`.trim();
}

export function bytes(value) {
  return big(value, "B");
}

/** A day with its time. */
export function day(when) {
  if (!when) return "–";
  return new Intl.DateTimeFormat(language(), { dateStyle: "medium", timeStyle: "short" }).format(
    new Date(1000 * when),
  );
}

/** The kind of a stage; one that asks general questions does something else than one that asks a task. */
export function deed(run, { name, kind }) {
  const said = run.recipe.stages?.find((stage) => (stage.name ?? stage.kind) === name);
  return said?.general ? "general" : kind;
}

/** What a stage does, in words. */
export const does = (kind) => (has(`kind.${kind}`) ? t(`kind.${kind}`) : kind);

/** The name of a field of the step records. */
export const field = (name) => (has(`field.${name}`) ? t(`field.${name}`) : name);

/** A finding in the language of the page. */
export function sentence(finding) {
  const key = `finding.${finding.rule}`;
  if (language() === "en" || !has(key)) return finding.sentence;
  const facts = Object.entries(finding.facts).map(([name, said]) => [
    name,
    said.replace(/(\d)\.(\d)/g, "$1,$2"),
  ]);
  return t(key, Object.fromEntries(facts));
}

const MARKS = { right: "done", wrong: "cross", form: "more" };

/** A verdict with its mark: right, right in another form, or wrong. */
export function verdict({ right, lenient }) {
  const kind = right ? "right" : lenient ? "form" : "wrong";
  return h("span", { class: `verdict ${kind}` }, icon(MARKS[kind], 16), t(`verdict.${kind}`));
}

/** A reply in its two parts. */
export function parted(reply) {
  const text = String(reply ?? "");
  const end = text.lastIndexOf("</think>");
  if (end >= 0) return { thinking: text.slice(0, end).replace(/^<think>/, ""), answer: text.slice(end + 8) };
  return text.startsWith("<think>")
    ? { thinking: text.slice(7), answer: "" }
    : { thinking: null, answer: text };
}

/** What was thought and what was answered. */
export function said({ thinking, answer }, open = false) {
  const thought = (thinking ?? "").trim();
  const words = plain(answer).trim();
  return [
    thought &&
      h(
        "details",
        { class: "thought", open },
        h("summary", null, t("thought", { n: [...thought].length })),
        h("pre", { text: plain(thought), dir: "auto" }),
      ),
    h("p", { class: words ? "answer" : "answer none", dir: "auto", text: words || t("no.answer") }),
  ];
}

/** The chip that says how a run or stage is. */
export const chip = (state) =>
  h("span", { class: `chip ${state}` }, h("i", { "aria-hidden": "true" }), t(`state.${state}`));
