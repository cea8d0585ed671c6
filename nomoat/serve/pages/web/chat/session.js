// What is open and what runs; the view listens, the buttons call.

import { notice } from "../app/dialog.js";
import { t } from "../app/i18n.js";
import { keep, kept } from "../app/kept.js";
import { answer, branched, endOfThinking, noTokens, textOf, unended } from "./answering.js";
import { judge } from "./judging.js";
import { chosen } from "./models.js";
import { chatOf, persist, putChat, putTokens, tokensOf } from "./store.js";
import { addAsked, addReply, history, newChat, turns } from "./tree.js";

const SAVE_MS = 1000;

/** Events: "open" (another chat), "change" (its shape), "piece" (a reply grew), "idle" (it ended), "away". */
class Session extends EventTarget {
  chat = newChat();
  running = new Map(); // reply's id -> what stops it

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  get busy() {
    return this.running.size > 0;
  }

  /** Opens a chat; without an id, or one that is gone, a new one. */
  async open(id = null) {
    this.stop();
    this.chat = (id && (await chatOf(id).catch(() => null))) || newChat();
    keep("open", this.chat.id);
    this.tell("open", this.chat);
  }

  /** The chat that was open last. */
  reopen = () => this.open(kept("open", null));

  async save(chat = this.chat) {
    if (!Object.keys(chat.nodes).length) return;
    try {
      await putChat(chat);
      this.tell("saved", chat);
    } catch {
      if (!this.unsaved) notice(t("error.store"), { kind: "wrong" });
      this.unsaved = true;
    }
  }

  /** Asks the chosen models; `beside` makes it a branch of an earlier question. */
  send(text, { check = null, beside = null } = {}) {
    const { chat } = this;
    if (!Object.keys(chat.nodes).length) persist();
    const asked = addAsked(chat, { text, models: chosen(), check, beside });
    for (const model of asked.models) this.run(chat, asked, addReply(chat, asked, model));
    this.tell("change", chat);
    this.save();
  }

  /** Another reply of the same model, or of the one chosen now. */
  regenerate(reply) {
    const { chat } = this;
    const asked = chat.nodes[reply.parent];
    const model = asked.models.length > 1 ? reply.model : (chosen()[0] ?? reply.model);
    if (asked.models.length === 1) asked.models = [model];
    this.run(chat, asked, addReply(chat, asked, model));
    this.tell("change", chat);
  }

  /** Goes on behind the last token of a reply. */
  async goOn(reply) {
    const record = await this.recordOf(reply);
    record.ids = unended(reply, record);
    this.run(this.chat, this.chat.nodes[reply.parent], reply, record);
    this.tell("change", this.chat);
  }

  /** Asks once more for what the server went away from; the same reply goes on. */
  retry() {
    for (const { reply } of turns(this.chat).at(-1)?.lanes ?? []) {
      if (reply?.error?.status !== 0 || this.running.has(reply.id)) continue;
      if (reply.n) this.goOn(reply);
      else this.run(this.chat, this.chat.nodes[reply.parent], reply);
    }
    this.tell("change", this.chat);
  }

  /** Ends the thinking of a reply that runs: it goes on with its answer. */
  async endThinking(reply) {
    const { chat } = this;
    const id = await endOfThinking(reply.model);
    const job = this.running.get(reply.id);
    if (!job || id === null || reply.text) return;
    job.control.abort();
    await job.done;
    job.record.ids.push(id);
    this.run(chat, chat.nodes[reply.parent], reply, job.record);
    this.tell("change", chat);
  }

  /** Another reply that begins as `reply` does up to its token `n`, with `other` in that place. */
  async branch(reply, n, other) {
    const { chat } = this;
    const old = await this.recordOf(reply);
    const { ids, tokens } = branched(old, n, other);
    const asked = chat.nodes[reply.parent];
    const beginning = {
      text: textOf(tokens, "answer").trimStart(),
      thinking: textOf(tokens, "thinking"),
      n: ids.length,
    };
    const thought = tokens.filter(({ kind }) => kind === "thinking").length;
    if (thought) beginning.thought = { tokens: thought, seconds: 0 };
    const next = addReply(chat, asked, reply.model, { ...beginning, from: { reply: reply.id, at: n } });
    this.run(chat, asked, next, { ...noTokens(chat, next), prompt: old.prompt, ids, tokens });
    this.tell("change", chat);
  }

  recordOf = async (reply) =>
    this.running.get(reply.id)?.record ?? (await tokensOf(reply.id)) ?? noTokens(this.chat, reply);

  choose(place, id) {
    this.chat.chosen[place] = id;
    this.tell("change", this.chat);
    this.save();
  }

  /** Stops a reply, or all that run. */
  stop(reply = null) {
    for (const [id, { control }] of this.running) if (!reply || id === reply.id) control.abort();
  }

  run(chat, asked, reply, record = noTokens(chat, reply)) {
    const control = new AbortController();
    const job = { control, record };
    this.running.set(reply.id, job);
    job.done = this.#answer(chat, asked, reply, job);
  }

  async #answer(chat, asked, reply, { control, record }) {
    let saved = performance.now();
    const onPiece = () => {
      this.tell("piece", reply);
      if (performance.now() - saved < SAVE_MS) return;
      saved = performance.now();
      this.#keep(chat, record);
    };
    try {
      await answer({
        messages: history(chat, asked, reply.model),
        reply,
        record,
        signal: control.signal,
        onPiece,
      });
    } catch (error) {
      if (control.signal.aborted) reply.finish = "stopped";
      else {
        reply.error = { message: error.message, status: error.status ?? -1, code: error.code ?? null };
        if (error.status === 0) this.tell("away", error);
        if (error.status === undefined) console.error(error);
      }
    }
    this.running.delete(reply.id);
    await this.#keep(chat, record);
    this.tell("idle", reply);
    if (asked.check && !reply.error && reply.finish !== "stopped") await judge(this, chat, asked, reply);
  }

  async #keep(chat, record) {
    await putTokens(record).catch(() => {});
    await this.save(chat);
  }
}

export const session = new Session();
