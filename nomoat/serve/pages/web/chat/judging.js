// What the task's own verifier says of an answer, and how answers to one problem spread.

import { get, post } from "../app/api.js";

let families = null;

/** `{family, levels: [names], own}` of all kinds of problem. */
export async function kinds() {
  families ??= (await get("/api/kinds")).kinds.map((kind) => ({ ...kind, levels: listed(kind.levels) }));
  return families;
}

const listed = (levels) => (Array.isArray(levels) ? levels : Array.from({ length: levels }, (_, n) => n + 1));

/** A problem that no model was trained on: `{family, level, seed, prompt}`. */
export const problem = (family, level, lang) => post("/api/problem", { family, level, lang });

const placeOf = ({ check: { family, level, seed, lang } }) => ({ family, level, seed, lang });

/** Asks the verifier; its verdict is kept in the reply. */
export async function judge(session, chat, asked, reply) {
  try {
    reply.verdict = await post("/api/verdict", {
      ...placeOf(asked),
      answer: reply.text,
      thinking: reply.thinking || null,
    });
  } catch (error) {
    reply.verdict = { failed: error.message };
  }
  session.tell("judged", reply);
  await session.save(chat);
}

/** Asks the same model the same problem many times; how its answers spread is kept in the reply. */
export async function ask(session, chat, asked, reply, { n = 32, signal, temperature, thinking } = {}) {
  const body = { ...placeOf(asked), model: reply.model, n, temperature, thinking };
  await session.within(chat, async () => {
    reply.spread = await post("/api/ask", body, { signal });
    session.tell("judged", reply);
    await session.save(chat);
  });
}
