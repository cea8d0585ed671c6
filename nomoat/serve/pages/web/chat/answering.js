// One reply, as it comes: what the server streams goes into the node and its tokens.

import { post, stream } from "../app/api.js";
import { modelOf } from "./models.js";
import { drawing, told } from "./settings.js";
import { tokensOf } from "./store.js";

const TOP = 5;

/** Tokens of a reply: `prompt` and `ids` as the server counts them, `tokens` those that have a text. */
export const noTokens = (chat, reply) => ({ id: reply.id, chat: chat.id, prompt: [], ids: [], tokens: [] });

/**
 * Streams a reply into `reply` and `record`; `onPiece` is called after each piece.
 * A reply that has tokens already is continued behind them.
 * @param {{messages: any[], reply: any, record: any, signal: AbortSignal, onPiece: () => void}} job
 */
export async function answer({ messages, reply, record, signal, onPiece }) {
  const model = modelOf(reply.model);
  const body = {
    model: reply.model,
    messages: told(messages),
    stream: true,
    stream_options: { include_usage: true },
    timings: true,
    return_token_ids: true,
    ...drawing(model),
    logprobs: true,
    top_logprobs: TOP,
  };
  if (record.ids.length) body.reply_tokens = record.ids;
  reply.finish = null;
  reply.error = null;
  const begun = performance.now();
  const clock = { begun, first: null, thinking: null, thought: reply.thought?.seconds ?? 0 };
  try {
    for await (const chunk of stream("/v1/chat/completions", body, { signal })) {
      if (chunk.prompt_token_ids) record.prompt = chunk.prompt_token_ids;
      if (chunk.timings) reply.timings = summed(chunk.timings, reply.before);
      if (chunk.usage) reply.context = chunk.usage.total_tokens;
      const choice = chunk.choices?.[0];
      if (choice) take(choice, chunk, reply, record, clock);
      onPiece();
    }
  } finally {
    const spent = (performance.now() - (clock.first ?? begun)) / 1000;
    reply.timings ??= {
      predicted_n: reply.n,
      predicted_per_second: spent > 0 ? reply.n / spent : 0,
      prompt_n: record.prompt.length,
    };
    reply.before = reply.timings;
  }
}

function take(choice, chunk, reply, record, clock) {
  const { delta = {}, logprobs, finish_reason: finish } = choice;
  const ids = choice.token_ids ?? delta.token_ids ?? [];
  if (choice.prompt_token_ids ?? delta.prompt_token_ids)
    record.prompt = choice.prompt_token_ids ?? delta.prompt_token_ids;
  const thought = delta.reasoning_content ?? "";
  const text = delta.content ?? "";
  if (ids.length || thought || text) clock.first ??= performance.now();
  noted(ids, logprobs, record);
  reply.n += ids.length || (thought || text ? 1 : 0);
  reply.context = record.prompt.length + record.ids.length;
  if (thought) {
    clock.thinking ??= reply.text ? performance.now() : clock.begun;
    reply.thinking += thought;
    reply.thought = { tokens: (reply.thought?.tokens ?? 0) + (ids.length || 1), seconds: clock.thought };
  }
  if (clock.thinking !== null)
    reply.thought.seconds = clock.thought + (performance.now() - clock.thinking) / 1000;
  if (text) {
    clock.thinking = null;
    reply.text += reply.text ? text : text.trimStart();
  }
  if (finish) reply.finish = finish;
}

/** Keeps the ids, and of those that have a text what else could have stood there. */
function noted(ids, logprobs, record) {
  const begin = record.ids.length;
  record.ids.push(...ids);
  let at = begin;
  for (const [kind, list] of [
    ["thinking", logprobs?.reasoning_content],
    ["answer", logprobs?.content],
  ]) {
    for (const entry of list ?? []) {
      while (at < record.ids.length && entry.token_id !== undefined && record.ids[at] !== entry.token_id)
        at += 1;
      record.tokens.push({
        at: Math.min(at, record.ids.length),
        kind,
        ...entryOf(entry),
        top: entry.top_logprobs.map(entryOf),
      });
      at += 1;
    }
  }
}

const entryOf = ({ token_id: id, token: text, logprob, bytes }) =>
  text.includes("\ufffd") ? { id, text, logprob, bytes } : { id, text, logprob };

/** The timings of a reply that came in several goes: tokens and costs add up, the speed is the last one's. */
function summed(now, before) {
  if (!before) return now;
  const sum = { ...now };
  for (const name of ["predicted_n", "draft_n", "draft_n_accepted", "joules", "money"]) {
    if (typeof now[name] === "number" && typeof before[name] === "number") sum[name] += before[name];
  }
  return sum;
}

/** The ids of a reply without what ended it: behind these it can go on. */
export function unended(reply, record) {
  if (reply.finish !== "stop" || !record.tokens.length) return record.ids;
  return record.ids.slice(0, record.tokens.at(-1).at + 1);
}

/** The record of a reply up to token `n` of its tokens, `other` standing in that token's place. */
export function branched(record, n, other) {
  const token = record.tokens[n];
  const kept = record.tokens.slice(0, n);
  return {
    ids: [...record.ids.slice(0, token.at), other.id],
    tokens: [...kept, { ...token, ...other, top: token.top }],
  };
}

/** What tokens of one kind read as together. */
export function textOf(tokens, kind) {
  const bytes = [];
  const encoder = new TextEncoder();
  for (const token of tokens)
    if (token.kind === kind) bytes.push(...(token.bytes ?? encoder.encode(token.text)));
  return new TextDecoder().decode(new Uint8Array(bytes));
}

const ends = new Map();

/** The id that ends a model's thinking; null if it has none. */
export async function endOfThinking(model) {
  if (!ends.has(model)) {
    const { end_thinking_id: id } = await post("/api/inspect", {
      model,
      prompt_tokens: [],
      reply_tokens: [],
    });
    ends.set(model, id ?? null);
  }
  return ends.get(model);
}

/** Which experts each token went to, asked once and kept with the record. */
export async function inspected(reply) {
  const record = await tokensOf(reply.id);
  if (!record?.ids.length) return null;
  const body = { model: reply.model, prompt_tokens: record.prompt, reply_tokens: record.ids };
  return (await post("/api/inspect", body)).tokens;
}
