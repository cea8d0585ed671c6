// Where a message is written, and who is to answer it.

import { fill, h } from "../app/dom.js";
import { icon } from "../app/icons.js";
import { familyName, number, t } from "../app/i18n.js";
import { keep, kept } from "../app/kept.js";
import { choose, chosen, labelOf, modelOf, models, single, stagesOf } from "./models.js";
import { openProblems } from "./problems.js";
import { openSettings } from "./settings.js";
import { session } from "./session.js";
import { turns } from "./tree.js";

const NEARLY = 0.85; // of the context: time to say so

export class Composer {
  #input = h("textarea", {
    class: "message",
    rows: 1,
    "aria-label": t("message"),
    placeholder: t("message.hint"),
    enterkeyhint: "send",
    maxlength: 400_000,
  });
  #send = h("button", { class: "send", type: "button", "aria-label": t("send") }, icon("send"));
  #chip = h("div");
  #models = h("span", { class: "model-picker" });
  #lanes = h("div");
  #gauge = h("span", { class: "gauge" });
  #compare = h(
    "button",
    {
      class: "tool",
      type: "button",
      "aria-pressed": "false",
      "aria-label": t("compare"),
      title: t("compare.why"),
    },
    icon("columns", 18),
    h("span", { text: t("compare") }),
  );
  #check = null;
  #comparing = chosen().length > 1;

  constructor() {
    const tool = (name, drawing, go) =>
      h(
        "button",
        { class: "tool", type: "button", "aria-label": t(name), title: t(`${name}.hint`), on: { click: go } },
        icon(drawing, 18),
        h("span", { text: t(name) }),
      );
    this.element = h(
      "div",
      { class: "composer" },
      this.#lanes,
      h(
        "div",
        { class: "card" },
        this.#chip,
        this.#input,
        h(
          "div",
          { class: "tools" },
          this.#models,
          this.#compare,
          tool("check", "check", () => this.openProblems()),
          tool("settings", "settings", openSettings),
          h("span", { class: "room" }),
          this.#gauge,
          this.#send,
        ),
      ),
    );
    this.#input.value = kept("draft", "");
    this.#input.addEventListener("input", () => this.#typed());
    this.#input.addEventListener("keydown", (event) => this.#key(event));
    this.#send.addEventListener("click", () => (session.busy ? session.stop() : this.send()));
    this.#compare.addEventListener("click", () => this.#toggleCompare());
    for (const name of ["change", "idle", "open"]) session.addEventListener(name, () => this.#draw());
    document.addEventListener("modelschange", () => this.#draw());
    this.#draw();
    requestAnimationFrame(() => this.#grow());
  }

  focus = () => this.#input.focus();

  /** What was written, and has not been sent. */
  get text() {
    return this.#input.value;
  }

  /** Puts a text into the field, with the problem that it is. */
  write(text, check = null) {
    this.#input.value = text;
    this.#check = check && { ...check, prompt: text };
    this.#typed();
    this.#draw();
    this.focus();
  }

  openProblems = () => openProblems(({ prompt, ...check }) => this.write(prompt, check));

  send() {
    const text = this.#input.value.trim();
    if (!text || session.busy || !models().length) return;
    const { prompt, ...check } = this.#check ?? {};
    this.#input.value = "";
    this.#check = null;
    this.#typed();
    session.send(text, { check: prompt?.trim() === text ? check : null });
  }

  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    if (matchMedia("(pointer: coarse)").matches && !event.ctrlKey) return;
    event.preventDefault();
    this.send();
  }

  #typed() {
    keep("draft", this.#input.value);
    this.#grow();
    this.#drawSend();
    if (this.#check && this.#input.value.trim() !== this.#check.prompt.trim()) {
      this.#check = null;
      this.#drawChip();
    }
  }

  #grow() {
    const { style } = this.#input;
    style.setProperty("block-size", "auto");
    style.setProperty("block-size", `${Math.min(this.#input.scrollHeight, innerHeight * 0.4)}px`);
  }

  #draw() {
    this.#drawChip();
    this.#drawModels();
    this.#drawSend();
    this.#drawGauge();
  }

  #drawChip() {
    const check = this.#check;
    const off = () => {
      this.#check = null;
      this.#drawChip();
    };
    fill(
      this.#chip,
      check &&
        h(
          "div",
          { class: "chip" },
          icon("check", 16),
          t("check.of", { ...check, family: familyName(check.family) }),
          h(
            "button",
            { "aria-label": t("check.off"), title: t("check.off"), on: { click: off } },
            icon("cross", 14),
          ),
        ),
    );
  }

  #drawSend() {
    const { busy } = session;
    const label = busy ? t("stop") : t("send");
    if (this.#send.getAttribute("aria-label") !== label) fill(this.#send, icon(busy ? "stop" : "send"));
    this.#send.setAttribute("aria-label", label);
    this.#send.title = busy ? `${label} (Esc)` : `${label} (↵)`;
    this.#send.disabled = !busy && (!this.#input.value.trim() || !models().length);
  }

  // --- who answers ---

  #toggleCompare() {
    this.#comparing = !this.#comparing;
    const stages = stagesOf(chosen()[0]);
    if (!this.#comparing) choose([single()]);
    else
      choose(
        stages.length > 1
          ? stages.map(({ id }) => id)
          : models()
              .slice(0, 2)
              .map(({ id }) => id),
      );
  }

  #drawModels() {
    const now = chosen();
    const all = models();
    if (now.length > 1) this.#comparing = true;
    this.#compare.setAttribute("aria-pressed", String(this.#comparing));
    this.#compare.hidden = all.length < 2;
    const select = h(
      "select",
      {
        "aria-label": t("model"),
        disabled: this.#comparing || !all.length,
        on: { change: () => choose([select.value]) },
      },
      all.length ? grouped(all) : h("option", { text: t("model.none") }),
    );
    select.value = now[0] ?? "";
    const several = this.#comparing && now.length > 1;
    fill(
      this.#models,
      several
        ? h("span", { class: "several", text: t("models.several", { n: now.length }) })
        : [select, icon("down", 14)],
    );
    fill(this.#lanes, this.#comparing && this.#laneChoice(all, now));
  }

  #laneChoice(all, now) {
    const stages = stagesOf(now[0]).map(({ id }) => id);
    const isStages = stages.length === now.length && stages.every((id) => now.includes(id));
    const toggle = (id) => {
      const next = now.includes(id)
        ? now.filter((each) => each !== id)
        : all.map((each) => each.id).filter((each) => each === id || now.includes(each));
      if (next.length) choose(next);
    };
    return h(
      "div",
      { class: "lane-choice", role: "group", "aria-label": t("compare.who") },
      stages.length > 1 &&
        h("button", {
          class: "pill strong",
          "aria-pressed": String(isStages),
          text: t("stages"),
          title: t("stages.why"),
          on: { click: () => choose(stages) },
        }),
      all.map((model) =>
        h("button", {
          class: "pill",
          "aria-pressed": String(now.includes(model.id)),
          text: nameOf(model),
          title: model.id,
          on: { click: () => toggle(model.id) },
        }),
      ),
    );
  }

  /** How much of the context the last reply has filled. */
  #drawGauge() {
    const reply = turns(session.chat)
      .at(-1)
      ?.lanes.map((lane) => lane.reply)
      .filter(Boolean)
      .sort((a, b) => (b.context ?? 0) - (a.context ?? 0))[0];
    const most = modelOf(reply?.model ?? chosen()[0])?.context;
    const n = reply?.context ?? 0;
    if (!most || !n) return fill(this.#gauge);
    const share = Math.min(1, n / most);
    const said = t("context.of", { n: number(n, 7), most: number(most, 7) });
    this.#gauge.classList.toggle("nearly", share > NEARLY);
    return fill(
      this.#gauge,
      h(
        "span",
        {
          class: "meter",
          role: "meter",
          "aria-label": t("context"),
          "aria-valuemin": 0,
          "aria-valuemax": most,
          "aria-valuenow": n,
          "aria-valuetext": said,
          title: said,
        },
        h("i", { style: { "inline-size": `${100 * share}%` } }),
      ),
      h("span", { class: "small number", text: said }),
      share > NEARLY &&
        h("button", { class: "link small", text: t("new.chat"), on: { click: () => session.open() } }),
    );
  }
}

const nameOf = (model) => {
  const label = labelOf(model.id);
  return models().filter((each) => labelOf(each.id) === label).length > 1 ? model.id : label;
};

function grouped(all) {
  const runs = by(all);
  return [...runs].map(([run, some]) => {
    const options = some.map((model) => h("option", { value: model.id, text: nameOf(model) }));
    return run && runs.size > 1 ? h("optgroup", { label: run }, options) : options;
  });
}

function by(all) {
  const runs = new Map();
  for (const model of all) runs.set(model.run ?? "", [...(runs.get(model.run ?? "") ?? []), model]);
  return runs;
}
