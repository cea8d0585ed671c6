// What the server has to offer, and which of it was chosen.

import { get } from "../app/api.js";
import { joules, language, money, percent, seconds, short, t } from "../app/i18n.js";
import { keep, kept } from "../app/kept.js";

const unbroken = (part) => part.replaceAll(" ", "\u00a0");
const joined = (parts) => parts.map(unbroken).join("\u00a0· ");
const CENT = 0.01;
const MOST = 6; // side by side: as many as a browser keeps connections
let list = kept("models", []); // as they were last time, for when the server is away
let heard = null; // "yes" once the server has answered, "no" where it could not
let standard = null; // who answers if nobody was chosen

/** Asks the server for its models; the first is the default. */
export async function readModels() {
  let all;
  try {
    all = (await get("/api/models")).models;
    heard = "yes";
  } catch (error) {
    heard = "no";
    throw error;
  }
  list = ordered(all);
  standard = all[0]?.id ?? null;
  keep("models", list);
  return list;
}

/** The models of one run beside each other, in the order of its stages. */
function ordered(all) {
  const runs = [...new Set(all.map((model) => model.run ?? model.id))];
  const at = (model) => runs.indexOf(model.run ?? model.id);
  return [...all].sort((a, b) => at(a) - at(b) || (a.place ?? 0) - (b.place ?? 0));
}

export const models = () => list;

/** Whether the server has said what it has: "yes", "no" where it could not, null before that. */
export const answered = () => heard;

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
  return list.filter((model) => run && model.run === run && model.stage).slice(0, MOST);
}

/** The chosen models: one, or several side by side. */
export function chosen() {
  const ids = kept("chosen", []).filter(modelOf).slice(0, MOST);
  return ids.length ? ids : [standard ?? list[0]?.id].filter(modelOf);
}

/** The one that answered before several did. */
export const single = () => [kept("single", null), standard, list[0]?.id].find(modelOf);

export function choose(ids) {
  if (ids.length === 1) keep("single", ids[0]);
  keep("chosen", ids.slice(0, MOST));
  document.dispatchEvent(new CustomEvent("modelschange"));
}

/** What a stage took, in words: "2 h 25 min · 0.31 kWh · €0.21"; null if nobody knows. */
export const costOf = (model) => (model.cost ? joined(amounts(model.cost)) : null);

/** What a model took with all stages before it; null if one of them is not known. */
export function wholeCostOf(model) {
  if (model.cost_total) return listed(amounts(model.cost_total));
  const stages = stagesOf(model.id);
  const until = stages.findIndex(({ stage }) => stage === model.stage);
  const costs = (until < 0 ? [model] : stages.slice(0, until + 1)).map(({ cost }) => cost);
  if (costs.some((cost) => !cost)) return null;
  const sum = (name) => costs.reduce((all, cost) => all + (cost[name] ?? 0), 0);
  return listed(
    amounts({
      seconds: sum("seconds"),
      joules: sum("joules"),
      money: sum("money"),
      currency: costs.at(-1).currency,
    }),
  );
}

/** Amounts as words of a sentence: "1 h 50 min, 66 kJ, €0.02". */
const listed = (parts) => new Intl.ListFormat(language(), { type: "unit" }).format(parts.map(unbroken));

function amounts(cost) {
  const parts = [];
  if (cost.seconds) parts.push(seconds(cost.seconds));
  if (cost.joules) parts.push(energy(cost.joules));
  if (cost.money) parts.push(price(cost.money, cost.currency ?? "USD"));
  return parts;
}

const price = (value, currency) => (value < CENT ? `< ${money(CENT, currency)}` : money(value, currency));

const energy = (value) =>
  value > 3.6e5
    ? `${Number((value / 3.6e6).toPrecision(2)).toLocaleString(document.documentElement.lang)} kWh`
    : joules(value);

/** How much a model gets right: `{share, low, high, said}`; null if it was not measured. */
export function scoreOf(model) {
  const scores = model.scores;
  const share = scores?.greedy ?? scores?.sampled;
  if (share === null || share === undefined) return null;
  return {
    share,
    low: scores.low ?? share,
    high: scores.high ?? share,
    said: percent(share),
    of: model.score_of,
  };
}

/** "1.9M parameters · 1.2M active". */
export function sizeOf(model) {
  if (!model.parameters) return "";
  const all = t("model.parameters", { size: short(model.parameters) });
  return joined(
    model.active && model.active < model.parameters
      ? [all, t("model.active", { size: short(model.active) })]
      : [all],
  );
}
