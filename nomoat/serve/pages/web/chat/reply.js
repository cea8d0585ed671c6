// One reply: who speaks, what it thought, what it says, what it cost, and what can be done with it.

import { copied } from "../app/markdown.js";
import { $, fill, h } from "../app/dom.js";
import { icon } from "../app/icons.js";
import { joules, money, number, seconds, t } from "../app/i18n.js";
import { Body } from "./body.js";
import { labelOf, modelOf } from "./models.js";
import { session } from "./session.js";
import { switcher } from "./switcher.js";
import { tokenView } from "./tokens.js";
import { verdictOf } from "./verdict.js";

/** The view of a reply; `update` draws what has changed. */
export class Reply {
  #body = new Body();
  #thought = h("div", { class: "thought-text" });
  #summary = h("span");
  #parts = {};
  #tokens = null;
  #thinkingShown = "";

  constructor(reply, lane, { head = true } = {}) {
    this.reply = reply;
    const p = this.#parts;
    p.thinking = this.#thinking();
    p.waiting = h("div", { class: "waiting", "aria-hidden": "true" }, h("i"), h("i"), h("i"));
    p.error = h("div");
    p.tokens = h("div");
    p.verdict = h("div");
    p.foot = h("footer", { class: "reply-foot" });
    p.switch = h("span");
    this.element = h(
      "article",
      { class: "reply", id: `m-${reply.id}`, "aria-label": reply.model },
      head &&
        h(
          "header",
          { class: "reply-head" },
          h("span", { class: "speaker", text: reply.model }),
          stageOf(reply.model),
        ),
      p.thinking,
      this.#body.element,
      p.tokens,
      p.waiting,
      p.error,
      p.verdict,
      p.foot,
    );
    this.place(lane);
    this.update();
  }

  /** Where it stands among its branches. */
  place(lane) {
    this.lane = lane;
    fill(this.#parts.switch, switcher(lane.branches, this.reply, lane.place));
  }

  get running() {
    return session.running.has(this.reply.id);
  }

  update() {
    const { reply, running } = this;
    this.element.setAttribute("aria-busy", String(running));
    this.element.classList.toggle("running", running);
    this.#parts.waiting.hidden = !running || Boolean(reply.text);
    this.#updateThinking();
    this.#body.show(reply.text, { done: !running });
    if (running) {
      this.#live();
      return;
    }
    this.#drawError();
    this.#drawFoot();
    this.judged();
  }

  judged() {
    const asked = session.chat.nodes[this.reply.parent];
    fill(this.#parts.verdict, asked?.check && !this.running ? verdictOf(asked, this.reply) : null);
  }

  // --- thinking ---

  #thinking() {
    const end = h("button", {
      class: "link small",
      text: t("end.thinking"),
      on: {
        click: (event) => {
          event.preventDefault();
          end.disabled = true;
          session
            .endThinking(this.reply)
            .catch((error) => console.warn(error))
            .finally(() => {
              end.disabled = false;
            });
        },
      },
    });
    this.#parts.end = end;
    const head = h("summary", null, icon("right", 16), this.#summary);
    return h("div", { class: "thinking", hidden: true }, h("details", null, head, this.#thought), end);
  }

  #updateThinking() {
    const { reply, running } = this;
    const { thinking: box, end } = this.#parts;
    box.hidden = !reply.thinking;
    if (!reply.thinking) return;
    const now = running && !reply.text;
    box.classList.toggle("now", now);
    end.hidden = !now;
    const said = {
      n: reply.thought?.tokens ?? 0,
      time: seconds(reply.thought?.seconds ?? 0).replaceAll(" ", "\u00a0"),
    };
    this.#summary.textContent = t(now ? "thinking" : "thought", said);
    const more = reply.thinking.startsWith(this.#thinkingShown)
      ? reply.thinking.slice(this.#thinkingShown.length)
      : null;
    if (more === null) this.#thought.textContent = reply.thinking;
    else if (more) this.#thought.append(more);
    if (this.#thought.childNodes.length > 200) this.#thought.normalize();
    this.#thinkingShown = reply.thinking;
  }

  // --- below the text ---

  #live() {
    const { reply } = this;
    fill(this.#parts.error);
    if (this.#tokens) this.#hideTokens();
    if ($(".live", this.#parts.foot)) $(".live", this.#parts.foot).textContent = t("tokens", { n: reply.n });
    else {
      const stop = h(
        "button",
        {
          class: "action",
          "aria-label": t("stop.this"),
          title: `${t("stop")} (Esc)`,
          on: { click: () => session.stop(reply) },
        },
        icon("stop", 16),
      );
      const several = session.chat.nodes[reply.parent]?.models.length > 1;
      fill(
        this.#parts.foot,
        several && stop,
        h("span", { class: "facts live number", text: t("tokens", { n: reply.n }) }),
      );
    }
  }

  #drawError() {
    const { reply } = this;
    const why = reply.error
      ? problemOf(reply)
      : reply.finish === null && reply.text
        ? { text: t("reply.broken"), on: true }
        : null;
    fill(
      this.#parts.error,
      why &&
        h(
          "div",
          { class: `problem ${reply.error && !why.full ? "wrong" : ""}`, role: reply.error ? "alert" : null },
          h("p", { text: why.text }),
          why.detail && h("p", { class: "small muted", text: why.detail }),
          h("div", { class: "row" }, this.#cures(why)),
        ),
    );
  }

  #cures(why) {
    if (why.full) return [act("new", "plus", () => session.open())];
    return [
      goesOn(this.reply) && act("continue", "on", () => session.goOn(this.reply)),
      act("again", "again", () => session.regenerate(this.reply)),
    ];
  }

  #drawFoot() {
    const { reply } = this;
    const copy = h(
      "button",
      {
        class: "action",
        "aria-label": t("copy"),
        title: t("copy"),
        on: { click: () => copied(copy, reply.text) },
      },
      icon("copy", 16),
    );
    const view = h(
      "button",
      {
        class: "action",
        "aria-label": t("tokens.show"),
        title: t("tokens.why"),
        "aria-pressed": String(Boolean(this.#tokens)),
        on: { click: () => this.#toggleTokens(view) },
      },
      icon("tokens", 16),
    );
    const broken = reply.error && !reply.text;
    fill(
      this.#parts.foot,
      this.#parts.switch,
      !broken && [
        copy,
        small("regenerate", "again", () => session.regenerate(reply)),
        goesOn(reply) && small("continue", "on", () => session.goOn(reply)),
        reply.n > 0 && view,
      ],
      h("span", { class: "facts number" }, facts(reply)),
    );
  }

  #hideTokens() {
    this.#tokens = null;
    this.#body.element.hidden = false;
    fill(this.#parts.tokens);
  }

  async #toggleTokens(button) {
    this.#tokens = this.#tokens ? null : await tokenView(this.reply);
    this.#body.element.hidden = Boolean(this.#tokens);
    fill(this.#parts.tokens, this.#tokens);
    button.setAttribute("aria-pressed", String(Boolean(this.#tokens)));
  }
}

const goesOn = (reply) => reply.n > 0 && !(reply.error?.code === "context_length_exceeded");

const stageOf = (id) => (labelOf(id) === id ? null : h("span", { class: "muted small", text: labelOf(id) }));

function small(name, drawing, go) {
  return h(
    "button",
    { class: "action", "aria-label": t(name), title: t(name), on: { click: go } },
    icon(drawing, 16),
  );
}

function act(name, drawing, go) {
  return h(
    "button",
    { class: "button", on: { click: go } },
    icon(drawing, 16),
    t(name === "again" ? "regenerate" : name === "new" ? "new.chat" : name),
  );
}

/** What went wrong, in words that help. */
function problemOf({ error, model, parent }) {
  if (error.code === "context_length_exceeded") {
    const n = modelOf(model)?.context;
    if (n && !session.chat.nodes[parent]?.parent)
      return { text: t("error.long", { n }), detail: t("error.long.do"), full: true };
    return {
      text: n ? t("error.full", { n }) : t("error.full.unknown"),
      detail: t("error.full.do"),
      full: true,
    };
  }
  if (error.status === 0) return { text: t("error.away") };
  if (error.code === "model_failed" || error.status >= 500)
    return { text: t("error.failed"), detail: error.message };
  if (error.status === 429) return { text: t("error.queue") };
  return { text: t("error.refused"), detail: error.message };
}

/** Joules, with a sign before those that nobody measured. */
function energy({ joules: spent, joules_source: source }) {
  const isMeasured = source && !/estim/.test(source);
  return h("span", {
    title: t(isMeasured ? "joules.measured" : "joules.estimated"),
    text: `${isMeasured ? "" : "≈ "}${joules(spent)}`,
  });
}

/** What a reply cost; what is too little to be read is told of a million of them. */
function price({ money: spent, currency = "USD" }) {
  if (spent > 1e-3) return money(spent, currency);
  return h("span", {
    title: t("price.million.why"),
    text: t("price.million", { price: money(spent * 1e6, currency) }),
  });
}

/** What a reply cost, in one quiet line. */
function facts(reply) {
  const { timings: spent = {}, n } = reply;
  if (!n) return [];
  const parts = [t("tokens", { n })];
  if (spent.predicted_per_second > 0) parts.push(t("per.second", { n: number(spent.predicted_per_second) }));
  if (spent.draft_n > 0) parts.push(t("drafts", { taken: spent.draft_n_accepted ?? 0, of: spent.draft_n }));
  if (spent.joules > 0) parts.push(energy(spent));
  if (spent.money > 0) parts.push(price(spent));
  if (reply.finish === "length") parts.push(t("finish.length"));
  if (reply.finish === "stopped") parts.push(t("finish.stopped"));
  return parts.map((part) => h("span", { class: "fact" }, part));
}
