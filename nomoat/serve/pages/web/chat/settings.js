// How answers are drawn; kept on this machine.

import { h } from "../app/dom.js";
import { sheet } from "../app/dialog.js";
import { number, t } from "../app/i18n.js";
import { keep, kept } from "../app/kept.js";

const DEFAULTS = {
  temperature: 0.7,
  topP: 0.95,
  topK: 0,
  system: "",
  thinking: "auto",
  budget: null,
  longest: null,
};
let now = { ...DEFAULTS, ...kept("settings", {}) };

export const settings = () => now;

function change(name, value) {
  now = { ...now, [name]: value };
  keep("settings", now);
}

/** The fields of a request that say how to draw, for a model that thinks or does not. */
export function drawing(model) {
  const fields = { temperature: now.temperature, top_p: now.topP };
  if (now.topK > 0) fields.top_k = now.topK;
  if (now.longest) fields.max_tokens = now.longest;
  if (model?.thinks && now.thinking !== "auto")
    fields.thinking = { type: now.thinking === "on" ? "enabled" : "disabled" };
  if (model?.thinks && now.thinking !== "off" && now.budget) fields.thinking_token_budget = now.budget;
  return fields;
}

/** The messages of a conversation, with what the person wants the model to be told first. */
export const told = (messages) =>
  now.system.trim() ? [{ role: "system", content: now.system.trim() }, ...messages] : messages;

/** The sheet of settings. */
export function openSettings() {
  const rows = h("div", { class: "stack settings" });
  const draw = () =>
    rows.replaceChildren(
      slider("temperature", 0, 2, 0.05),
      slider("topP", 0.05, 1, 0.05),
      whole("topK", 0, 1000),
      choice("thinking", ["auto", "on", "off"]),
      whole("budget", 0, 1_000_000),
      whole("longest", 0, 1_000_000),
      system(),
    );
  const reset = h("button", { class: "button quiet", text: t("settings.reset") });
  reset.addEventListener("click", () => {
    now = { ...DEFAULTS };
    keep("settings", now);
    draw();
  });
  draw();
  return sheet(t("settings"), [rows, h("div", { class: "sheet-actions" }, reset)]);
}

function field(name, input, shown = null) {
  const id = `set-${name}`;
  input.id = id;
  input.setAttribute("aria-describedby", `${id}-why`);
  return h(
    "div",
    { class: "setting" },
    h("div", { class: "setting-head" }, h("label", { for: id, text: t(`settings.${name}`) }), shown),
    input,
    h("p", { id: `${id}-why`, class: "small muted", text: t(`settings.${name}.why`) }),
  );
}

function slider(name, min, max, step) {
  const shown = h("output", { class: "number", text: number(now[name]) });
  const input = h("input", { type: "range", min, max, step, value: now[name] });
  input.addEventListener("input", () => {
    change(name, Number(input.value));
    shown.textContent = number(now[name]);
  });
  return field(name, input, shown);
}

function whole(name, min, max) {
  const input = h("input", {
    type: "number",
    min,
    max,
    step: 1,
    inputmode: "numeric",
    value: now[name] || "",
    placeholder: t("settings.none"),
  });
  input.addEventListener("change", () => {
    const value = Math.min(max, Math.max(min, Math.round(Number(input.value)) || 0));
    input.value = value || "";
    change(name, value || null);
  });
  return field(name, input);
}

function choice(name, options) {
  const input = h(
    "select",
    null,
    options.map((option) => h("option", { value: option, text: t(`settings.${name}.${option}`) })),
  );
  input.value = now[name];
  input.addEventListener("change", () => change(name, input.value));
  return field(name, input);
}

function system() {
  const input = h("textarea", {
    rows: 3,
    maxlength: 20_000,
    value: now.system,
    placeholder: t("settings.system.none"),
  });
  input.addEventListener("input", () => change("system", input.value));
  return field("system", input);
}
