// What the server has to offer, and which of it was chosen.

import { get } from "../app/api.js";
import { joules, money, percent, seconds, short, t } from "../app/i18n.js";
import { keep, kept } from "../app/kept.js";

const MOST = 6;  // side by side: as many as a browser keeps connections
let list = kept("models", []);  // as they were last time, for when the server is away

/** Asks the server for its models; the first is the default. */
export async function readModels() {
  list = (await get("/api/models")).models;
  keep("models", list);
  return list;
}

export const models = () => list;

export const modelOf = (id) => list.find((model) => model.id === id);

/** The name of a model as a person reads it; of one that is no longer served, its id. */
export function labelOf(id) {
  const model = modelOf(id);
  if (!model) return id;
  const key = `stage.${model.kind}`;
  const said = t(key);
  return said === key ? model.label || model.id : said;
}

/** The stages of the run of a model, in their order, each once. */
export function stagesOf(id) {
  const run = modelOf(id)?.run ?? list[0]?.run;
  const stages = new Map();
  for (const model of list) {
    if (run && model.run === run && model.stage && !stages.has(model.stage)) stages.set(model.stage, model);
  }
  return [...stages.values()].slice(0, MOST);
}

/** The chosen models: one, or several side by side. */
export function chosen() {
  const ids = kept("chosen", []).filter(modelOf).slice(0, MOST);
  return ids.length ? ids : list.slice(0, 1).map(({ id }) => id);
}

export function choose(ids) {
  keep("chosen", ids.slice(0, MOST));
  document.dispatchEvent(new CustomEvent("modelschange"));
}

/** What it took to make a model, in words: "2 h 25 min · 0.31 kWh · €0.21"; null if nobody knows. */
export function costOf(model) {
  const { cost } = model;
  if (!cost) return null;
  const parts = [];
  if (cost.seconds) parts.push(seconds(cost.seconds));
  if (cost.joules) parts.push(energy(cost.joules));
  if (cost.money) parts.push(money(cost.money, cost.currency ?? "USD"));
  return parts.length ? parts.join(" · ") : null;
}

const energy = (value) => (value > 3.6e5 ? `${Number((value / 3.6e6).toPrecision(2)).toLocaleString(document.documentElement.lang)} kWh` : joules(value));

/** How much a model gets right: `{share, low, high, said}`; null if it was not measured. */
export function scoreOf(model) {
  const scores = model.scores;
  const share = scores?.greedy ?? scores?.sampled;
  if (share === null || share === undefined) return null;
  return { share, low: scores.low ?? share, high: scores.high ?? share, said: percent(share), of: model.score_of };
}

/** "1.9M parameters, 1.2M active". */
export function sizeOf(model) {
  if (!model.parameters) return "";
  const all = t("model.parameters", { size: short(model.parameters) });
  return model.active && model.active < model.parameters ? `${all}, ${t("model.active", { size: short(model.active) })}` : all;
}
