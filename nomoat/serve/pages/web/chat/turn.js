// One turn: what was asked, and the reply to it, or several side by side.

import { fill, h } from "../app/dom.js";
import { copied } from "../app/markdown.js";
import { icon } from "../app/icons.js";
import { familyName, t } from "../app/i18n.js";
import { costOf, labelOf, modelOf, scoreOf, sizeOf } from "./models.js";
import { Reply } from "./reply.js";
import { session } from "./session.js";
import { switcher } from "./switcher.js";
import { scoreBar } from "./stages.js";

export class Turn {
  #asked = h("article", { class: "asked", "aria-label": t("you") });
  #lanes = h("div", { class: "lanes" });
  #replies = new Map(); // reply's id -> Reply

  constructor(turn) {
    this.element = h("section", { class: "turn" }, this.#asked, this.#lanes);
    this.update(turn);
  }

  replyOf = (reply) => this.#replies.get(reply.id);

  update(turn) {
    this.turn = turn;
    if (!this.editing) this.#drawAsked();
    const apart = turn.lanes.length > 1;
    this.element.classList.toggle("apart", apart);
    const before = this.#replies;
    this.#replies = new Map();
    const columns = turn.lanes.map((lane) => {
      if (!lane.reply) return null;
      const old = before.get(lane.reply.id);
      const view = old ?? new Reply(lane.reply, lane, { head: !apart });
      if (old) {
        old.place(lane);
        old.update();
      }
      this.#replies.set(lane.reply.id, view);
      return apart ? h("div", { class: "lane" }, laneHead(lane.model), view.element) : view.element;
    });
    const now = [...this.#lanes.children];
    if (apart || now.length !== columns.length || now.some((each, n) => each !== columns[n]))
      fill(this.#lanes, columns);
  }

  #drawAsked() {
    const { asked, branches, place } = this.turn;
    const copy = h(
      "button",
      {
        class: "action",
        "aria-label": t("copy"),
        title: t("copy"),
        on: { click: () => copied(copy, asked.text) },
      },
      icon("copy", 16),
    );
    const edit = h(
      "button",
      { class: "action", "aria-label": t("edit"), title: t("edit"), on: { click: () => this.edit() } },
      icon("edit", 16),
    );
    fill(
      this.#asked,
      asked.check &&
        h(
          "div",
          { class: "chip", title: t("check.alone") },
          icon("check", 16),
          t("check.of", { ...asked.check, family: familyName(asked.check.family) }),
        ),
      h("div", { class: "asked-text", text: asked.text }),
      h("footer", { class: "asked-foot" }, switcher(branches, asked, place), copy, edit),
    );
  }

  /** Turns the question into a field; sending makes a branch, Esc leaves it as it was. */
  edit() {
    const { asked } = this.turn;
    this.editing = true;
    const input = h("textarea", { class: "asked-edit", "aria-label": t("edit"), value: asked.text, rows: 2 });
    const leave = () => {
      this.editing = false;
      this.#drawAsked();
    };
    const send = () => {
      const text = input.value.trim();
      if (!text) return;
      leave();
      const check = text === asked.text ? asked.check : null;
      session.send(text, { check, beside: asked });
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") leave();
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    fill(
      this.#asked,
      input,
      h(
        "div",
        { class: "row end" },
        h("button", { class: "button quiet", text: t("cancel"), on: { click: leave } }),
        h("button", { class: "button primary", text: t("edit.send"), on: { click: send } }),
      ),
    );
    input.focus();
    input.setSelectionRange(input.value.length, input.value.length);
  }
}

/** Who speaks in a column, what it took to make it and how good it is. */
function laneHead(id) {
  const model = modelOf(id);
  const cost = model && costOf(model);
  const score = model && scoreOf(model);
  return h(
    "header",
    { class: "lane-head" },
    h(
      "div",
      { class: "lane-name" },
      h("span", { class: "speaker", text: labelOf(id) }),
      score && h("span", { class: "number score", text: score.said }),
    ),
    score && scoreBar(score),
    h("p", { class: "small muted", text: [model && sizeOf(model), cost].filter(Boolean).join("\u00a0· ") }),
  );
}
