// What models say: one problem answered by every stage, and the watched prompts over time.

import { fill, h } from "../app/dom.js";
import { icon } from "../app/icons.js";
import { familyName, number, t } from "../app/i18n.js";
import { parted, plain, said, verdict } from "./words.js";

/** The problem that shows most: wrong early, right later; then those with thinking. */
function telling(samples) {
  const worth = ({ answers: all }) => {
    const answers = all.filter(({ model }) => !model.includes(","));
    const first = answers[0]?.right ? 0 : 1;
    const later = answers.slice(1).filter(({ right }) => right).length;
    return 4 * first * Math.min(later, 2) + later + (answers.some(({ thinking }) => thinking) ? 0.5 : 0);
  };
  return [...samples].sort((a, b) => worth(b) - worth(a));
}

/** Problems of the evaluation, each answered by all stages, to leaf through. */
export function conversations(run) {
  const order = run.stages.map(({ name }) => name);
  const list = telling(run.samples);
  if (!list.length) return null;
  const stage = h("div", { class: "asked", "aria-live": "polite" });
  const tabs = list.map((sample, i) =>
    h("button", {
      class: "tab",
      "aria-pressed": "false",
      text: familyName(sample.family),
      on: { click: () => show(i) },
    }),
  );
  let at = 0;
  const show = (i) => {
    at = (i + list.length) % list.length;
    tabs.forEach((tab, j) => tab.setAttribute("aria-pressed", String(j === at)));
    fill(stage, problem(list[at], order));
  };
  const step = (by, name) =>
    h(
      "button",
      {
        class: "icon-button",
        "aria-label": t(`problem.${name}`),
        title: t(`problem.${name}`),
        on: { click: () => show(at + by) },
      },
      icon(by < 0 ? "left" : "right"),
    );
  show(0);
  return h(
    "section",
    { class: "conversations", id: "conversations", "aria-label": t("conversations") },
    h(
      "div",
      { class: "section-head" },
      h("h2", { text: t("conversations") }),
      h("p", { class: "muted", text: t("conversations.note") }),
      h("div", { class: "leaf" }, step(-1, "before"), step(1, "after")),
    ),
    h("div", { class: "tabs-row", role: "group", "aria-label": t("families") }, tabs),
    stage,
  );
}

function problem({ prompt, family, level, answers }, order) {
  const place = ({ model }) => (order.includes(model) ? order.indexOf(model) : order.length);
  const sorted = [...answers].sort((a, b) => place(a) - place(b));
  const one = (answer) =>
    h(
      "article",
      { class: `reply ${answer.right ? "right" : "wrong"}`, "aria-label": answer.model },
      h("header", null, h("b", { text: answer.model }), verdict(answer)),
      said(answer),
    );
  return [
    h(
      "div",
      { class: "question" },
      h("p", {
        class: "muted small",
        text: t("family.level", { family: familyName(family), level: String(level ?? "") }),
      }),
      h("p", { class: "bubble", dir: "auto", text: plain(prompt) }),
    ),
    h("div", { class: "replies" }, sorted.map(one)),
  ];
}

/** The watched prompts: what the policy said to each after some steps. */
export function probes({ stage, probes: list }) {
  if (!list.length) return null;
  const steps = list[0].replies.map(({ step }) => step);
  const out = h("output", { class: "number" });
  const slider = h("input", {
    type: "range",
    min: 0,
    max: steps.length - 1,
    value: steps.length - 1,
    "aria-label": t("probes.step"),
    on: { input: () => show(Number(slider.value)) },
  });
  const cards = list.map((probe) => card(probe, (i) => show(i)));
  const show = (i) => {
    slider.value = i;
    slider.setAttribute("aria-valuetext", t("step.n", { n: steps[i] }));
    out.textContent = t("step.n", { n: steps[i] });
    for (const each of cards) each.show(i);
  };
  show(steps.length - 1);
  return h(
    "section",
    { class: "probes", id: `probes-${stage}`, "aria-label": t("probes") },
    h(
      "div",
      { class: "section-head" },
      h("h2", { text: t("probes") }),
      h("p", { class: "muted", text: t("probes.note", { stage }) }),
    ),
    steps.length > 1 ? h("div", { class: "scrubber" }, slider, out) : null,
    cards.map(({ box }) => box),
  );
}

function card({ family, prompt, replies }, show) {
  const answer = h("div", { class: "probe-answer" });
  const strip = h(
    "div",
    { class: "strip", role: "group", "aria-label": t("probes.strip", { family: familyName(family) }) },
    replies.map((reply, i) =>
      h(
        "button",
        {
          class: reply.right ? "right" : "wrong",
          "aria-label": `${t("step.n", { n: reply.step })}: ${t(reply.right ? "verdict.right" : "verdict.wrong")}`,
          title: t("step.n", { n: reply.step }),
          on: { click: () => show(i) },
        },
        icon(reply.right ? "done" : "cross", 14),
      ),
    ),
  );
  const right = replies.filter((reply) => reply.right).length;
  const box = h(
    "article",
    { class: "probe", "aria-label": familyName(family) },
    h(
      "header",
      null,
      h("b", { text: familyName(family) }),
      h("span", {
        class: "muted small",
        text: t("probes.right", { right: number(right), n: replies.length }),
      }),
    ),
    h("p", { class: "bubble", dir: "auto", text: plain(prompt) }),
    replies.length > 1 ? strip : null,
    answer,
  );
  return {
    box,
    show: (i) => {
      const reply = replies[Math.min(i, replies.length - 1)];
      [...strip.children].forEach((each, j) => each.setAttribute("aria-current", String(j === i)));
      fill(answer, verdict({ right: reply.right }), said(parted(reply.text), true));
    },
  };
}
