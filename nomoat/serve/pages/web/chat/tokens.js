// The tokens of a reply, each tinted by how likely the model held it; what else could have stood there.

import { $, fill, h } from "../app/dom.js";
import { percent, t } from "../app/i18n.js";
import { icon } from "../app/icons.js";
import { inspected } from "./answering.js";
import { expertStrip, heatStrip } from "./experts.js";
import { modelOf } from "./models.js";
import { floating } from "./floating.js";
import { session } from "./session.js";

const AT_ONCE = 256; // tokens in one piece, which the browser passes over while it is far
const share = ({ logprob }) => Math.min(1, Math.exp(logprob));

/** What is seen in the place of a reply's text. */
export async function tokenView(reply) {
  const record = await session.recordOf(reply);
  const box = h("div", { class: "tokens" });
  if (!record.tokens.length) return fill(box, h("p", { class: "muted", text: t("tokens.none") }));
  const isRouted = Boolean(modelOf(reply.model)?.experts);
  const view = { reply, record, firing: isRouted ? inspected(reply).catch(() => null) : null };
  const heat = h("div");
  const pieces = [];
  for (let from = 0; from < record.tokens.length; from += AT_ONCE) {
    const some = record.tokens.slice(from, from + AT_ONCE);
    pieces.push(
      h(
        "div",
        { class: "token-piece" },
        some.map((token, n) => shown(token, from + n, record.tokens)),
      ),
    );
  }
  const list = h("div", { class: "token-list", role: "group", "aria-label": t("tokens.list") }, pieces);
  $(".token", list).tabIndex = 0;
  for (const [name, listener] of Object.entries(listeners(view, list))) list.addEventListener(name, listener);
  fill(box, legend(record), list, heat);
  view.firing?.then((fired) => {
    if (fired) fill(heat, heatStrip(fired, modelOf(reply.model).experts));
  });
  return box;
}

function shown(token, n, all) {
  const p = share(token);
  const text = token.text === "" ? "∅" : token.text;
  const begins = n > 0 && all[n - 1].kind === "thinking" && token.kind === "answer";
  return [
    begins && h("span", { class: "token-border" }),
    h("span", {
      class: `token in-${token.kind}`,
      role: "button",
      tabindex: "-1",
      dataset: { n },
      style: { "--p": p.toFixed(4) },
      "aria-label": `${spoken(text)}, ${percent(p)}`,
      text,
    }),
  ];
}

const spoken = (text) => text.replaceAll("\n", "⏎").trim() || "␣";

function legend({ tokens }) {
  const mean = Math.exp(tokens.reduce((sum, { logprob }) => sum + Math.max(logprob, -30), 0) / tokens.length);
  return h(
    "p",
    { class: "token-legend small muted" },
    h("span", { class: "scale", "aria-hidden": "true" }),
    h("span", { text: t("tokens.legend", { p: percent(mean) }) }),
  );
}

function listeners(view, list) {
  const tokenAt = (event) => event.target.closest(".token");
  let timer = 0;
  const open = (element, focus) => {
    clearTimeout(timer);
    const n = Number(element.dataset.n);
    $(".token.open", list)?.classList.remove("open");
    element.classList.add("open");
    const box = floating(element, details(view, n), {
      focus,
      onClose: () => element.classList.remove("open"),
    });
    box.setAttribute("aria-label", t("tokens.alternatives"));
  };
  return {
    click: (event) => tokenAt(event) && open(tokenAt(event), true),
    pointerover: (event) => {
      clearTimeout(timer);
      const element = tokenAt(event);
      if (element && event.pointerType === "mouse") timer = setTimeout(() => open(element, false), 220);
    },
    pointerleave: () => clearTimeout(timer),
    keydown: (event) => {
      const element = tokenAt(event);
      const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10 }[event.key];
      if (by) moved(list, element, by);
      else if (event.key === "Enter" || event.key === " ") open(element, true);
      else return;
      event.preventDefault();
    },
  };
}

function moved(list, element, by) {
  const all = [...list.querySelectorAll(".token")];
  const next = all[Math.min(all.length - 1, Math.max(0, all.indexOf(element) + by))];
  element.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

/** The place of token `n`: its probability, the alternatives, its experts. */
function details({ reply, record, firing }, n) {
  const token = record.tokens[n];
  const isAmong = token.top.some(({ id }) => id === token.id);
  const rows = isAmong ? token.top : [token, ...token.top];
  const experts = h("div");
  firing?.then((fired) => {
    const ours = fired?.[token.at];
    if (ours?.experts?.length) fill(experts, expertStrip(ours, modelOf(reply.model).experts));
  });
  return [
    h("h3", { class: "small" }, t("tokens.here")),
    h(
      "ul",
      { class: "alternatives" },
      rows.map((other) => h("li", null, alternative(reply, token, n, other))),
    ),
    experts,
  ];
}

function alternative(reply, token, n, other) {
  const p = share(other);
  const isTaken = other.id === token.id && other.text === token.text;
  const can = other.id !== undefined && !isTaken && !session.busy;
  return h(
    "button",
    {
      class: isTaken ? "alternative taken" : "alternative",
      disabled: !can,
      title: can ? t("tokens.branch") : null,
      on: { click: () => session.branch(reply, n, other) },
    },
    h("code", { text: visible(other.text) }),
    h(
      "span",
      { class: "bar", "aria-hidden": "true" },
      h("i", { style: { "inline-size": `${Math.max(1, 100 * p)}%` } }),
    ),
    h("span", { class: "number small", text: percent(p) }),
    can ? icon("branch", 14) : h("span"),
  );
}

const visible = (text) => text.replace(/^ /, "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "∅";
