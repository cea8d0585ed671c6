// Two runs side by side: what differs in their recipes, and what came of it.

import { h } from "../app/dom.js";
import { familyName, t } from "../app/i18n.js";
import { plot } from "./plot.js";
import { address } from "./routes.js";
import { rows } from "./rows.js";
import { table } from "./scores.js";
import { big, chip, coins, plain, points, share, time, verdict } from "./words.js";

export function compare({ runs, recipe, scores, receipts, curves, samples }, link) {
  const names = runs.map(({ name }) => name);
  return h(
    "div",
    { class: "stack wide-gap" },
    h(
      "header",
      { class: "run-head" },
      h("h1", { text: t("compare.title") }),
      h(
        "div",
        { class: "versus" },
        runs.map((run, i) =>
          h(
            "a",
            { class: "versus-run", href: address(run.name) },
            h(
              "span",
              { class: "versus-name" },
              h("i", { class: `dot series-${i + 1}`, "aria-hidden": "true" }),
              h("b", { text: run.name }),
              chip(run.state),
            ),
            h("span", { class: "versus-score", text: run.best ? share(run.best.value) : "–" }),
            h("small", { text: run.best ? run.best.model : t("unmeasured") }),
            h("small", {
              text: `${time(receipts[i].total.device_seconds)} · ${coins(receipts[i].total.money, receipts[i].total.currency)}`,
            }),
          ),
        ),
      ),
    ),
    measured(scores, names, link),
    differences(recipe, names),
    drawn(curves, names, link),
    cost(receipts, names),
    answers(samples, names),
  );
}

function differences(recipe, names) {
  const title = t("compare.recipes");
  const cell = (value) =>
    h("td", { class: "value" }, value === "no such key" ? "–" : h("code", { text: plain(value) }));
  return h(
    "section",
    { class: "card wide" },
    h("h2", { text: title }),
    recipe.length
      ? h(
          "div",
          { class: "scroll long", tabindex: "0", role: "group", "aria-label": title },
          h(
            "table",
            { class: "difference" },
            h(
              "thead",
              null,
              h(
                "tr",
                null,
                [t("key"), ...names].map((text) => h("th", { scope: "col", text })),
              ),
            ),
            h(
              "tbody",
              null,
              recipe.map(({ key, one, other }) =>
                h("tr", null, h("th", { scope: "row" }, h("code", { text: key })), cell(one), cell(other)),
              ),
            ),
          ),
        )
      : h("p", { class: "muted", text: t("compare.same") }),
  );
}

/** The means of each model in both, joined; the families of the model that does best. */
function measured(scores, names, link) {
  const shares = scores.filter(({ low, what }) => low !== null && what.startsWith("sampled, "));
  const list = shares.length ? shares : scores.filter(({ low }) => low !== null);
  if (!list.length)
    return h("section", { class: "card" }, h("p", { class: "muted", text: t("compare.unmeasured") }));
  const means = list.filter(({ what }) => what.endsWith(", mean"));
  const best = [...means].sort((a, b) => b.other - a.other)[0]?.model;
  const families = list.filter(({ what, model }) => model === best && !what.endsWith(", mean"));
  const row = (label) => (score) => ({
    label: label(score),
    value: score.other,
    before: score.one,
    strong: score.clear,
    ink: !score.clear ? "series-7" : score.other > score.one ? "accent" : "wrong",
    text: `${share(score.one)} → ${share(score.other)}`,
    more: points(score.other - score.one),
  });
  const note = t("compare.note", { one: names[0], other: names[1] });
  const run = names.join("-");
  return h(
    "div",
    { class: "figures" },
    rows({ title: t("compare.means"), run, link: link("means"), note }, means.map(row(({ model }) => model))),
    families.length
      ? rows(
          { title: t("compare.families", { model: best }), run, link: link("families"), note },
          families.map(row(({ what }) => what.split(", ")[1])),
        )
      : null,
  );
}

function drawn(curves, names, link) {
  if (!curves.length) return null;
  return h(
    "div",
    { class: "figures" },
    curves.map(({ stage, field, runs }) => {
      const steps = [...new Set(runs.flatMap((run) => run.steps))].sort((a, b) => a - b);
      const column = ({ steps: own, values }) => {
        const at = new Map(own.map((step, i) => [step, values[i]]));
        return steps.map((step) => at.get(step) ?? null);
      };
      const how = {
        title: `${stage}: ${t(`chart.${field}`)}`,
        run: names.join("-"),
        link: link(stage),
        axis: field === "reward" ? "percent" : "bits",
      };
      return plot(how, () => ({
        steps,
        curves: runs.map((run, i) => ({ label: names[i], ink: `series-${i + 1}`, values: column(run) })),
      }));
    }),
  );
}

function cost(receipts, names) {
  const stages = [...new Set(receipts.flatMap(({ rows: lines }) => lines.map(({ stage }) => stage)))];
  const of = (receipt, stage) =>
    stage === "total" ? receipt.total : receipt.rows.find((row) => row.stage === stage);
  const cells = (row) =>
    row ? [time(row.device_seconds), big(row.joules, "J"), coins(row.money, row.currency)] : ["", "", ""];
  const lines = [...stages, "total"].map((stage) => {
    const [one, other] = receipts.map((receipt) => cells(of(receipt, stage)));
    return [stage === "total" ? t("total") : stage, ...one.flatMap((text, i) => [text, other[i]])];
  });
  const header = [
    t("cost.stage"),
    ...["device", "energy", "money"].flatMap((key) => names.map((name) => `${t(`cost.${key}`)}, ${name}`)),
  ];
  return table(t("cost"), header, lines);
}

function answers(samples, names) {
  if (!samples.length) return null;
  const one = ({ model, family, prompts, replies, right }) =>
    h(
      "article",
      { class: "asked card" },
      h("p", { class: "muted small", text: `${familyName(family)} · ${model}` }),
      h(
        "div",
        { class: "replies two" },
        names.map((name, i) =>
          h(
            "div",
            { class: "reply" },
            h("p", { class: "bubble", dir: "auto", text: plain(prompts[i]) }),
            h("header", null, h("b", { text: name }), verdict({ right: right[i] })),
            h("p", { class: "answer", dir: "auto", text: plain(replies[i]) }),
          ),
        ),
      ),
    );
  return h(
    "section",
    null,
    h("div", { class: "section-head" }, h("h2", { text: t("compare.answers") })),
    h("div", { class: "stack" }, samples.slice(-12).map(one)),
  );
}
