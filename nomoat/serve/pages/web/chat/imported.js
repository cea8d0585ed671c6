// Conversations from a file.  A file is data of a stranger: only fields that are known are taken, of the
// kind that they have to be, and their text goes the way of a model's text.

import { t } from "../app/i18n.js";
import { freshId } from "./tree.js";

const MOST = { chats: 5000, nodes: 20_000, text: 4_000_000, models: 8 };
const ID = /^[\w-]{1,64}$/;
const FINISHES = ["stop", "length", "stopped"];

/** The conversations of a text in JSON, under new names; an Error says why there are none. */
export function imported(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error(t("import.no.json"));
  }
  const list = Array.isArray(value?.chats) ? value.chats : null;
  if (value?.format !== "nomoat-chats" || !list?.length) throw new Error(t("import.no.chats"));
  const chats = list.slice(0, MOST.chats).map(chatFrom).filter(Boolean);
  if (!chats.length) throw new Error(t("import.no.chats"));
  return chats;
}

function chatFrom(value) {
  if (!isTable(value) || !isTable(value.nodes)) return null;
  const names = new Map();
  const renamed = (id) => {
    if (typeof id !== "string" || !ID.test(id)) return null;
    if (!names.has(id)) names.set(id, freshId());
    return names.get(id);
  };
  const nodes = {};
  for (const each of Object.values(value.nodes).slice(0, MOST.nodes)) {
    const node =
      isTable(each) &&
      (each.role === "user"
        ? askedFrom(each, renamed)
        : each.role === "assistant"
          ? replyFrom(each, renamed)
          : null);
    if (node) nodes[node.id] = node;
  }
  rooted(nodes);
  if (!Object.keys(nodes).length) return null;
  const chosen = {};
  for (const [place, id] of Object.entries(isTable(value.chosen) ? value.chosen : {})) {
    const [head, ...model] = place.split("/");
    const at = head === "root" ? "root" : renamed(head);
    const to = renamed(id);
    if (at && nodes[to]) chosen[[at, ...model].join("/")] = to;
  }
  return {
    id: freshId(),
    title: line(value.title),
    created: time(value.created),
    updated: Date.now(),
    nodes,
    chosen,
  };
}

function askedFrom(value, renamed) {
  const id = renamed(value.id);
  const models = (Array.isArray(value.models) ? value.models : [])
    .slice(0, MOST.models)
    .map(line)
    .filter(Boolean);
  if (!id || !models.length) return null;
  const check = isTable(value.check) && {
    family: line(value.check.family),
    level: number(value.check.level),
    seed: whole(value.check.seed),
    lang: line(value.check.lang) || null,
  };
  return {
    id,
    role: "user",
    parent: value.parent === null ? null : renamed(value.parent),
    text: long(value.text),
    models,
    check: check?.family ? check : null,
    created: time(value.created),
  };
}

function replyFrom(value, renamed) {
  const id = renamed(value.id);
  const parent = renamed(value.parent);
  const model = line(value.model);
  if (!id || !parent || !model) return null;
  const reply = {
    id,
    role: "assistant",
    parent,
    model,
    text: long(value.text),
    thinking: long(value.thinking),
    finish: FINISHES.includes(value.finish) ? value.finish : "stopped",
    n: number(value.n),
    created: time(value.created),
    timings: numbers(value.timings),
  };
  if (isTable(value.thought))
    reply.thought = { tokens: number(value.thought.tokens), seconds: number(value.thought.seconds) };
  if (isTable(value.verdict) && typeof value.verdict.right === "boolean") {
    const { right, lenient, expected, why } = value.verdict;
    reply.verdict = {
      right,
      lenient: lenient === true,
      expected: expected === undefined ? null : line(String(expected)),
      why: why ? line(String(why)) : null,
    };
  }
  return reply;
}

/** Takes out what hangs from nothing, or from itself. */
function rooted(nodes) {
  const good = new Map();
  const isRooted = (node) => {
    const way = [];
    let at = node;
    while (at && !good.has(at.id) && !way.includes(at.id)) {
      way.push(at.id);
      if (at.parent === null) break;
      const above = nodes[at.parent];
      at = above && above.role !== at.role ? above : null;
    }
    const fine = Boolean(at) && (good.get(at.id) ?? at.parent === null);
    for (const id of way) good.set(id, fine);
    return fine;
  };
  for (const node of Object.values(nodes)) if (!isRooted(node)) delete nodes[node.id];
}

const isTable = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const long = (value) => (typeof value === "string" ? value.slice(0, MOST.text) : "");
const line = (value) => (typeof value === "string" ? value.slice(0, 200) : "");
const number = (value) => (Number.isFinite(value) ? value : 0);
const whole = (value) => (Number.isSafeInteger(value) || typeof value === "string" ? value : 0);
const time = (value) => (Number.isFinite(value) && value > 0 && value < 8e15 ? value : Date.now());

function numbers(value) {
  const kept = {};
  for (const name of [
    "prompt_n",
    "predicted_n",
    "predicted_per_second",
    "draft_n",
    "draft_n_accepted",
    "joules",
  ]) {
    if (isTable(value) && Number.isFinite(value[name])) kept[name] = value[name];
  }
  if (kept.joules && value.joules_source) kept.joules_source = line(value.joules_source);
  return kept;
}
