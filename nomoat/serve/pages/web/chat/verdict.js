// What the task's verifier says under an answer, and the answers of 32 tries.

import { fill, h, svg } from "../app/dom.js";
import { has, number, percent, seconds, t } from "../app/i18n.js";
import { icon } from "../app/icons.js";
import { ask } from "./judging.js";
import { session } from "./session.js";
import { settings } from "./settings.js";

const TRIES = 32;
const SHOWN = 8; // different answers

/** The verdict of a reply to a problem, and below it how its answers spread. */
export function verdictOf(asked, reply) {
  const { verdict } = reply;
  if (!verdict) return null;
  if (verdict.failed)
    return h(
      "div",
      { class: "problem" },
      h("p", { text: t("check.failed") }),
      h("p", { class: "small muted", text: verdict.failed }),
    );
  const { right, lenient, expected } = verdict;
  const kind = right ? "right" : lenient || verdict.why === "undecided" ? "doubt" : "wrong";
  const word = has(`verdict.${verdict.why}`) ? verdict.why : kind === "doubt" ? "form" : kind;
  return h(
    "section",
    { class: `verdict ${kind}`, "aria-label": t("verdict") },
    h(
      "div",
      { class: "verdict-head" },
      h("span", { class: "seal" }, icon(right ? "done" : "cross", 18)),
      h(
        "div",
        { class: "verdict-text" },
        h("b", { text: t(`verdict.${word}`) }),
        !right &&
          expected !== undefined &&
          expected !== null &&
          h("span", null, t("verdict.expected"), " ", h("code", { text: String(expected) })),
      ),
      tries(asked, reply),
    ),
    reply.spread && spread(reply.spread),
  );
}

function tries(asked, reply) {
  const button = h("button", { class: "button" }, icon("dice", 16), h("span", { text: t("ask.many") }));
  button.addEventListener("click", async () => {
    button.disabled = true;
    fill(button, h("span", { class: "spin", "aria-hidden": "true" }), h("span", { text: t("ask.running") }));
    const { temperature, thinking } = settings();
    try {
      await ask(session, session.chat, asked, reply, {
        n: TRIES,
        temperature: temperature || 1,
        thinking: thinking === "auto" ? null : thinking === "on",
      });
    } catch (error) {
      button.disabled = false;
      fill(button, icon("dice", 16), h("span", { text: t("ask.many") }));
      button.after(h("p", { class: "small wrong-text", role: "alert", text: error.message }));
    }
  });
  return button;
}

/** Bars of the answers, pass@k with its curve, the majority. */
function spread({ answers, n, right, pass_at: pass, majority, interval, seconds: spent }) {
  const most = Math.max(...answers.map(({ count }) => count), 1);
  const rows = answers
    .slice(0, SHOWN)
    .map((each) =>
      h(
        "li",
        { class: each.right ? "right" : "" },
        h("code", { text: String(each.answer ?? "") || t("ask.nothing") }),
        h(
          "span",
          { class: "bar", "aria-hidden": "true" },
          h("i", { style: { "inline-size": `${(100 * each.count) / most}%` } }),
        ),
        h("span", { class: "number", text: `${number(each.count)}${each.right ? " ✓" : ""}` }),
      ),
    );
  const others =
    answers.length > SHOWN &&
    h("li", { class: "muted small", text: t("ask.others", { n: answers.length - SHOWN }) });
  const [low, high] = interval ?? [];
  return h(
    "div",
    { class: "spread" },
    h(
      "div",
      null,
      h("h3", { text: t("ask.spread", { n: answers.length }) }),
      h("ol", { class: "bars" }, rows, others),
    ),
    h(
      "div",
      null,
      h("h3", { text: t("ask.pass") }),
      passes(pass),
      h(
        "p",
        { class: "small" },
        h("b", { class: "number", text: t("ask.right", { right, n }) }),
        low !== undefined && h("span", { class: "muted", text: ` (${percent(low)} – ${percent(high)})` }),
      ),
      h(
        "p",
        { class: "small" },
        t("ask.majority"),
        " ",
        h("code", { text: String(majority?.answer ?? "–") }),
        " ",
        h("b", {
          class: majority?.right ? "right-text" : "wrong-text",
          text: t(majority?.right ? "ask.is.right" : "ask.is.wrong"),
        }),
      ),
      spent !== undefined && h("p", { class: "small muted number", text: seconds(spent) }),
    ),
  );
}

function passes(pass) {
  const at = Object.entries(pass ?? {}).sort(([a], [b]) => a - b);
  return h(
    "div",
    { class: "passes" },
    at.map(([k, share]) =>
      h(
        "div",
        null,
        svg(
          "svg",
          { viewBox: "0 0 10 40", preserveAspectRatio: "none", "aria-hidden": "true" },
          svg("rect", { class: "ground", x: 0, y: 0, width: 10, height: 40, rx: 1.5 }),
          svg("rect", { class: "share", x: 0, y: 40 - 40 * share, width: 10, height: 40 * share, rx: 1.5 }),
        ),
        h("span", { class: "number", text: percent(share) }),
        h("span", { class: "muted number", text: `@${k}` }),
      ),
    ),
  );
}
