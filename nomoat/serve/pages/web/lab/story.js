// The first screen of a run: a sentence, four figures, the map of its stages.

import { h } from "../app/dom.js";
import { number, percent, short, t } from "../app/i18n.js";
import { between, big, chip, coins, deed, does, points, share, span, time } from "./words.js";

/** What a run is, in a sentence or two. */
export function told(run) {
  const facts = sizes(run);
  const said = [];
  const values = {
    stages: run.stages.length,
    parameters: facts.parameters ? short(facts.parameters) : "?",
    tokens: facts.tokens ? short(facts.tokens) : "0",
    families: run.scores.families.length,
  };
  const given = (run.given ?? []).join(", ");
  const made = given ? "told.taught" : "told.made";
  if (facts.parameters) said.push(t(facts.tokens ? made : "told.size", { ...values, given }));
  const at = run.stages.findIndex(({ state }) => state === "running");
  if (at >= 0) said.push(t("told.now", { stage: run.stages[at].name, n: at + 1, of: run.stages.length }));
  if (run.best) said.push(told_best(run, values));
  else if (run.state !== "new") said.push(t("told.unmeasured"));
  if (run.state === "new") said.push(t("told.new", values));
  return h("p", { class: "told" }, said.join(" ").replaceAll(" %", "\u00a0%"));
}

function told_best(run, values) {
  const { model, value } = run.best;
  const gain = gained(run, model);
  const said = t("told.best", { model, share: percent(value), families: values.families });
  if (!gain) return said;
  const clear = gain.low > 0 || gain.high < 0;
  const key = !clear ? "told.even" : gain.delta > 0 ? "told.more" : "told.less";
  return `${said.replace(/\.$/, "")}, ${t(key, { points: points(gain.delta).slice(1), source: gain.model })}`;
}

/** What a model has more than the one its stage began with. */
export const gained = (run, model) => run.before[model]?.[run.best?.how ?? "sampled"] ?? null;

function sizes(run) {
  const sized = run.stages.find((stage) => stage.parameters);
  return { parameters: sized?.parameters, active: sized?.active, tokens: run.receipt.total.tokens };
}

/** The figures that tell the story: how right, how large, what it cost, and beside its plan. */
export function headlines(run) {
  const found = [right(run), bits(run), size(run), cost(run), plan(run)].filter(Boolean);
  return h(
    "dl",
    { class: "headlines" },
    found.map(({ figure, what, beside, kind = "" }) =>
      h(
        "div",
        { class: `headline ${kind}` },
        h("dt", { text: what }),
        h("dd", null, h("b", { text: figure }), beside && h("small", { text: beside })),
      ),
    ),
  );
}

function right(run) {
  if (!run.best) return null;
  const gain = gained(run, run.best.model);
  const beside = [
    between(run.best),
    gain &&
      t("gain.over", { points: points(gain.delta), span: span(gain.low, gain.high), model: gain.model }),
  ];
  return {
    figure: share(run.best.value),
    what: t("head.right", { model: run.best.model }),
    beside: beside.filter(Boolean).join(" · "),
    kind: "main",
  };
}

function bits(run) {
  if (run.best) return null;
  const [model, found] =
    Object.entries(run.scores.bits)
      .filter(([name]) => !name.endsWith("-gram"))
      .at(-1) ?? [];
  if (!model) return null;
  const [lang, value] = Object.entries(found)[0];
  return { figure: number(value), what: t("head.bits", { model, lang }), beside: t("head.bits.lower") };
}

function size(run) {
  const { parameters, active } = sizes(run);
  if (!parameters && !run.receipt.total.tokens) return null;
  if (!parameters)
    return {
      figure: short(run.receipt.total.tokens),
      what: t("head.tokens"),
      beside: t("head.tokens.beside"),
    };
  return {
    figure: short(parameters),
    what: t("head.parameters"),
    beside: t("head.active", { active: short(active) }),
  };
}

function cost(run) {
  const { total } = run.receipt;
  const source = total.joules_source.includes("estimated") ? t("estimated") : t("measured");
  const beside = [coins(total.money, total.currency), `${big(total.joules, "J")} ${source}`];
  return {
    figure: time(total.device_seconds),
    what: t("head.cost", { device: `${run.receipt.units} × ${run.receipt.device}` }),
    beside: beside.join(" · "),
  };
}

function plan(run) {
  const begun = run.plan.filter((line) => line.took && line.state === "finished");
  const planned = begun.reduce((sum, line) => sum + line.seconds, 0);
  if (!planned) return null;
  const took = begun.reduce((sum, line) => sum + line.took.seconds, 0);
  return {
    figure: `${number(took / planned, 2)} ×`,
    what: t("head.plan"),
    beside: t("head.plan.beside", { took: time(took), planned: time(planned) }),
  };
}

/**
 * The stages in their order: what each is, how far, what it took, how right its model is.
 * @param {(stage: string) => string} link
 */
export function map(run, link) {
  const scores = run.scores[run.best?.how ?? "sampled"] ?? {};
  const cell = (stage) =>
    h(
      "li",
      { class: `stage ${stage.state}`, dataset: { stage: stage.name } },
      h(
        "a",
        { href: link(stage.name), "aria-current": stage.state === "running" ? "step" : null },
        h("span", { class: "stage-name" }, stage.name),
        h("span", { class: "stage-kind" }, does(deed(run, stage))),
        h("span", { class: "bar" }, h("i", { style: { "inline-size": `${100 * done(stage)}%` } })),
        h(
          "span",
          { class: "stage-foot" },
          h("span", { class: "stage-brief" }, brief(stage)),
          scores[stage.name]
            ? h("span", { class: "stage-score" }, share(scores[stage.name].mean.value))
            : null,
        ),
      ),
    );
  return h(
    "nav",
    { class: "map", "aria-label": t("stages") },
    h("ol", { style: { "--stages": run.stages.length } }, run.stages.map(cell)),
  );
}

export function done(stage) {
  if (stage.state === "finished") return 1;
  return stage.steps ? stage.step / stage.steps : 0;
}

/** "step 54 of 200, 12 min left", "8 min", "about 3 min". */
export function at(stage) {
  if (stage.state === "finished") return time(stage.seconds);
  const left =
    stage.eta_seconds === null || stage.eta_seconds === undefined
      ? null
      : t("left", { time: time(stage.eta_seconds) });
  if (stage.state === "waiting")
    return stage.eta_seconds ? t("about", { time: time(stage.eta_seconds) }) : t("state.waiting");
  const where = stage.steps ? t("step.of", { n: stage.step, of: stage.steps }) : t(`state.${stage.state}`);
  return [where, stage.state === "running" ? left : null].filter(Boolean).join(", ");
}

/** The same in a few letters: "71%, 19 min left". */
export function brief(stage) {
  if (stage.state !== "running" || !stage.steps) return at(stage);
  return `${percent(done(stage))}${stage.eta_seconds ? `, ${t("left", { time: time(stage.eta_seconds) })}` : ""}`;
}

/** The head of a run's page. */
export function head(run, actions = []) {
  const facts = [
    run.recipe.name !== run.name && run.recipe.name,
    `nomoat ${run.record.nomoat ?? "?"}`,
    t("seed.n", { n: String(run.recipe.seed ?? 0) }),
    `${run.receipt.units} × ${run.receipt.device}`,
  ].filter(Boolean);
  return h(
    "header",
    { class: "run-head" },
    h(
      "div",
      { class: "row" },
      h("h1", { text: run.name }),
      chip(run.state),
      run.state !== "finished" && run.eta_seconds
        ? h("span", { class: "eta" }, t("left.all", { time: time(run.eta_seconds) }))
        : null,
    ),
    h("p", { class: "muted", text: facts.join(" · ") }),
    actions.length ? h("div", { class: "row actions" }, actions) : null,
  );
}
