// How right each stage is: the stages by name, then every family.

import { fill, h } from "../app/dom.js";
import { familyName, fixed, number, t } from "../app/i18n.js";
import { figure, pictured } from "./figure.js";
import { rows } from "./rows.js";
import { between, points, share } from "./words.js";

/** The models in the order of the stages, controls behind them. */
export function models(run, scores) {
  const order = run.stages.map(({ name }) => name);
  const place = (model) => (order.includes(model) ? order.indexOf(model) : order.length);
  return Object.keys(scores).sort((one, other) => place(one) - place(other));
}

/** The mean of each stage with its interval, and what it has more than where it began. */
export function ladder(run, how, link) {
  const scores = run.scores[how] ?? {};
  const list = models(run, scores).map((model) => {
    const { value, low, high } = scores[model].mean;
    const gain = run.before[model]?.[how];
    return {
      label: model,
      value,
      low,
      high,
      text: share(value),
      more: gain ? points(gain.delta) : "",
      strong: model === run.best?.model,
      ink: model === run.best?.model ? "accent" : "series-7",
    };
  });
  if (!list.length) return null;
  const note = t(`ladder.note.${how}`, { n: Object.values(scores)[0].mean.n });
  return rows({ title: t(`right.${how}`), run: run.name, link, note }, list);
}

/** Families by stages, as far as there is more than one of both. */
export function matrix(run, how, link) {
  const scores = run.scores[how] ?? {};
  const columns = models(run, scores);
  if (!columns.length || run.scores.families.length < 2) return null;
  const best = (family) => Math.max(...columns.map((model) => scores[model][family]?.value ?? -1));
  const cell = (model, family) => {
    const found = scores[model][family];
    if (!found) return h("td", { class: "heat-cell", text: "–" });
    const top = found.value === best(family) && found.value > 0;
    return h(
      "td",
      {
        class: top ? "heat-cell top" : "heat-cell",
        title: `${model}, ${familyName(family)}: ${between(found)}, n = ${found.n}`,
        style: {
          "background-color": `color-mix(in srgb, var(--accent) calc(${found.value} * var(--heat)), var(--raised))`,
        },
      },
      number(Math.round(100 * found.value)),
    );
  };
  const line = (family) =>
    h(
      "tr",
      { class: family === "mean" ? "mean" : null },
      h("th", { scope: "row", text: family === "mean" ? t("mean") : familyName(family) }),
      columns.map((model) => cell(model, family)),
    );
  const title = t(`families.${how}`);
  const table = h(
    "table",
    { class: "matrix" },
    h(
      "thead",
      null,
      h(
        "tr",
        null,
        h("th", { scope: "col", text: t("family") }),
        columns.map((model) => h("th", { scope: "col", text: model })),
      ),
    ),
    h("tbody", null, [...run.scores.families].sort((a, b) => best(b) - best(a)).map(line)),
    h("tfoot", null, line("mean")),
  );
  return figure({ title, run: run.name, link, note: t("families.note"), kind: "wide" }, (body) => {
    if (!table.isConnected)
      fill(body, h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": title }, table));
    return () => pictured(table);
  });
}

/** Conversation and held-out prose, where they were measured. */
export function further(run) {
  const tables = [];
  const talks = Object.entries(run.scores.conversation);
  if (talks.length) {
    const names = models(run, Object.assign({}, ...talks.map(([, of]) => of)));
    tables.push(
      table(
        t("conversation"),
        ["", ...names],
        talks.map(([what, of]) => [
          t(`talk.${what.replace("/", ".")}`),
          ...names.map((name) => (of[name] ? share(of[name].value) : "")),
        ]),
      ),
    );
  }
  const bits = Object.entries(run.scores.bits);
  if (bits.length) {
    const langs = [...new Set(bits.flatMap(([, of]) => Object.keys(of)))];
    tables.push(
      table(
        t("bits"),
        [t("model"), ...langs],
        bits.map(([model, of]) => [model, ...langs.map((lang) => (of[lang] ? fixed(of[lang]) : ""))]),
        t("bits.note"),
      ),
    );
  }
  return tables.length ? h("div", { class: "columns" }, tables) : null;
}

/** A plain table with a title. */
export function table(title, header, lines, note) {
  const head = header.map((text, i) =>
    text ? h("th", { scope: "col", class: i ? "number" : null, text }) : h("td"),
  );
  const body = lines.map((cells) =>
    h(
      "tr",
      null,
      cells.map((text, i) => (i ? h("td", { class: "number", text }) : h("th", { scope: "row", text }))),
    ),
  );
  return h(
    "section",
    { class: "card" },
    h("h3", { text: title }),
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "group", "aria-label": title },
      h("table", null, h("thead", null, h("tr", null, head)), h("tbody", null, body)),
    ),
    note && h("p", { class: "note", text: note }),
  );
}
