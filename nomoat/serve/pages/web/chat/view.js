// The conversation: a turn after the other, drawn once and changed where it changes.

import { eachFrame, fill, h, throttled } from "../app/dom.js";
import { t } from "../app/i18n.js";
import { icon } from "../app/icons.js";
import { emptyState } from "./empty.js";
import { session } from "./session.js";
import { Turn } from "./turn.js";
import { turns } from "./tree.js";

const NEAR = 90; // pixels from the end that count as being there
const SAID_MS = 2500;

/** The scrolling part of the page. */
export class View {
  #log = h("div", {
    class: "log",
    role: "log",
    "aria-live": "off",
    "aria-label": t("conversation"),
    tabindex: "-1",
  });
  #title = h("h1", { class: "unseen" });
  #said = h("div", { class: "unseen", role: "status", "aria-live": "polite" });
  #down = h(
    "button",
    { class: "to-end", "aria-label": t("to.end"), hidden: true, on: { click: () => this.end(true) } },
    icon("down"),
  );
  #shown = new Map(); // asked's id -> Turn
  #follows = true;
  #spoken = 0;

  constructor() {
    this.element = h("div", { class: "scroller" }, this.#title, this.#log, this.#said);
    this.foot = this.#down;
    this.element.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    session.addEventListener("open", () => this.#opened());
    session.addEventListener("change", () => this.#sync({ follow: true }));
    session.addEventListener("piece", ({ detail }) => this.#piece(detail));
    session.addEventListener("idle", ({ detail }) => this.#idle(detail));
    session.addEventListener("judged", ({ detail }) => this.#reply(detail)?.judged());
    document.addEventListener("modelschange", () => this.#shown.size || this.#sync());
    new ResizeObserver(() => this.#follows && this.#shown.size && this.end()).observe(this.#log);
  }

  /** To the last line. */
  end(smooth = false) {
    this.#follows = true;
    this.element.scrollTo({ top: this.element.scrollHeight, behavior: smooth ? "smooth" : "instant" });
  }

  /** Opens the editor of the last question; false where there is none. */
  editLast() {
    const last = [...this.#shown.values()].at(-1);
    if (!last || session.busy) return false;
    last.edit();
    return true;
  }

  #opened() {
    this.#shown.clear();
    this.#log.replaceChildren();
    this.#sync({ follow: true });
    requestAnimationFrame(() => (this.#shown.size ? this.end() : this.element.scrollTo(0, 0)));
  }

  #sync({ follow = false } = {}) {
    const seen = turns(session.chat);
    document.body.classList.toggle("fresh", !seen.length);
    this.#title.hidden = !seen.length; // a new one has its own
    this.#title.textContent = session.chat.title;
    if (!seen.length) {
      this.#shown.clear();
      fill(this.#log, emptyState());
      return;
    }
    const before = this.#shown;
    this.#shown = new Map(
      seen.map((turn) => {
        const old = before.get(turn.asked.id);
        if (old) old.update(turn);
        return [turn.asked.id, old ?? new Turn(turn)];
      }),
    );
    const wanted = [...this.#shown.values()].map(({ element }) => element);
    for (const element of [...this.#log.children]) if (!wanted.includes(element)) element.remove();
    wanted.forEach((element, n) => {
      if (this.#log.children[n] !== element) this.#log.insertBefore(element, this.#log.children[n] ?? null);
    });
    if (follow && session.busy) requestAnimationFrame(() => this.end());
  }

  #reply = (reply) => this.#shown.get(reply.parent)?.replyOf(reply);

  #pending = new Set();

  #drawPending = eachFrame(() => {
    for (const reply of this.#pending) this.#reply(reply)?.update();
    this.#pending.clear();
  });

  #piece(reply) {
    if (!this.#reply(reply)) return; // of a chat that is not open
    this.#pending.add(reply);
    this.#drawPending();
    this.#speak(reply);
  }

  #idle(reply) {
    this.#pending.delete(reply);
    if (!this.#reply(reply)) return;
    this.#reply(reply).update();
    this.#speak(reply);
  }

  /** What has come is said to a screen reader now and then, in whole sentences. */
  #speak = throttled((reply) => {
    if (this.#spoken.id !== reply.id) this.#spoken = { id: reply.id, to: 0 };
    const text = reply.text.slice(this.#spoken.to);
    const whole = session.running.has(reply.id)
      ? text.slice(0, 1 + Math.max(text.lastIndexOf(". "), text.lastIndexOf("\n")))
      : text;
    if (!whole) return;
    this.#spoken.to += whole.length;
    this.#said.textContent = whole;
  }, SAID_MS);

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    this.#follows = scrollHeight - scrollTop - clientHeight < NEAR;
    this.#down.hidden = this.#follows || !this.#shown.size;
  }
}
