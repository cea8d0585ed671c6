// What is open and what runs; the view listens, the buttons call.

import { notice } from "../app/dialog.js";
import { t } from "../app/i18n.js";
import { keepHere, keptHere } from "../app/kept.js";
import { answer, branched, endOfThinking, noTokens, textOf, unended } from "./answering.js";
import { judge } from "./judging.js";
import { chosen } from "./models.js";
import { chatOf, persist, putChat, putTokens, removeChat, tokensOf } from "./store.js";
import { addAsked, addReply, history, newChat, turns } from "./tree.js";

const SAVE_MS = 1000;

/** Events: "open" (another chat), "change" (its shape), "piece" (a reply grew), "idle" (it ended), "away". */
class Session extends EventTarget {
  chat = newChat();
  running = new Map(); // reply's id -> {chat, control, record, done}: what answers, and what stops it
  #works = new Map(); // chat -> how many things go on in it, also while another is open

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** Whether the open chat is being answered. */
  get busy() {
    return this.answers(this.chat.id);
  }

  /** Whether a chat is being answered. */
  answers = (id) => [...this.running.values()].some(({ chat }) => chat.id === id);

  /** Opens a chat; without an id, or one that is gone, a new one.  What goes on in the last one goes on. */
  async open(id = null) {
    const worked = [...this.#works.keys()].find((chat) => chat.id === id);
    this.chat = worked ?? ((id && (await chatOf(id).catch(() => null))) || newChat());
    keepHere("open", this.chat.id);
    this.tell("open", this.chat);
  }

  /** Runs what changes a chat at its end: until then the chat stays the same object, whatever is opened. */
  async within(chat, work) {
    this.#works.set(chat, (this.#works.get(chat) ?? 0) + 1);
    try {
      return await work();
    } finally {
      const left = this.#works.get(chat) - 1;
      if (left) this.#works.set(chat, left);
      else this.#works.delete(chat);
    }
  }

  /** Ends what goes on in a chat, and forgets it. */
  async discard(id) {
    const jobs = [...this.running.values()].filter(({ chat }) => chat.id === id);
    for (const { control } of jobs) control.abort();
    for (const chat of this.#works.keys()) if (chat.id === id) chat.gone = true;
    if (this.chat.id === id) this.chat.gone = true;
    await Promise.all(jobs.map(({ done }) => done));
    await removeChat(id);
    this.#tabs.postMessage(id);
  }

  /** What another tab has changed: the list now, the open chat when a person comes back to it. */
  #tabs = new BroadcastChannel("nomoat");
  #isOld = false;

  constructor() {
    super();
    this.#tabs.addEventListener("message", ({ data: id }) => {
      this.#isOld ||= id === this.chat.id;
      this.tell("imported");
    });
    addEventListener("focus", () => {
      if (this.#isOld && !this.#works.has(this.chat)) this.open(this.chat.id);
      this.#isOld = false;
    });
  }

  /** The chat that was open last, in this tab. */
  reopen = () => this.open(keptHere("open", null));

  async save(chat = this.chat) {
    if (chat.gone || !Object.keys(chat.nodes).length) return;
    try {
      await putChat(chat);
      this.tell("saved", chat);
      this.#tabs.postMessage(chat.id);
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
    const { chat } = this;
    const record = await this.recordOf(reply);
    record.ids = unended(reply, record);
    this.run(chat, chat.nodes[reply.parent], reply, record);
    this.tell("change", chat);
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

  /** Stops a reply, or all of the open chat. */
  stop(reply = null) {
    for (const [id, { chat, control }] of this.running)
      if (reply ? id === reply.id : chat.id === this.chat.id) control.abort();
  }

  run(chat, asked, reply, record = noTokens(chat, reply)) {
    const control = new AbortController();
    const job = { chat, control, record };
    this.running.set(reply.id, job);
    job.done = this.within(chat, () => this.#answer(chat, asked, reply, job));
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
    if (!chat.gone) await putTokens(record).catch(() => {});
    await this.save(chat);
  }
}

export const session = new Session();
