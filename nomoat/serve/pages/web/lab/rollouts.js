// Rollouts to leaf through: what the policy wrote and what it got for it, problem by problem.

import { fill, h } from "../app/dom.js";
import { icon } from "../app/icons.js";
import { familyName, number, t } from "../app/i18n.js";
import { address } from "./routes.js";
import { parted, plain, said } from "./words.js";

export const ONLY = ["all", "right", "wrong", "doubted"];
const PAGE = 24;

/**
 * The view of a run's rollouts; its filters are in the link.
 * @param {object} run
 * @param {Record<string, string>} query stage, family, only, step, at; `still`: of a page without links
 * @param {{rollouts: (stage: string, query: object) => Promise<any>, families: (stage: string) => Promise<string[]>}} source
 */
export function rollouts(run, query, source) {
  const stages = run.stages.filter(({ kind }) => kind === "rl").map(({ name }) => name);
  if (!stages.length)
    return h(
      "div",
      { class: "nothing" },
      h("h2", { text: t("rollouts.none") }),
      h("p", { text: t("rollouts.none.why") }),
    );
  const stage = stages.includes(query.stage) ? query.stage : stages.at(-1);
  const asked = { family: "", only: "all", step: "", ...query, stage };
  const list = h(
    "div",
    { class: "problems", "aria-live": "polite", "aria-busy": "true" },
    h("p", { class: "muted", text: t("loading") }),
  );
  const foot = h("div", { class: "row centre" });
  const bar = filters(run, asked, stages, source);
  read(run, asked, source, list, foot, bar, true);
  return h(
    "section",
    { class: "rollouts", "aria-label": t("rollouts") },
    h(
      "div",
      { class: "section-head" },
      h("h2", { text: t("rollouts") }),
      h("p", { class: "muted", text: t("rollouts.note") }),
    ),
    bar,
    list,
    foot,
  );
}

const go = (run, asked, change) => {
  location.hash = address(run.name, "rollouts", { ...asked, at: "", ...change });
};

function filters(run, asked, stages, source) {
  const choose = (name, label, values, said = (value) => value) =>
    h(
      "label",
      null,
      label,
      h(
        "select",
        { "aria-label": label, on: { change: (event) => go(run, asked, { [name]: event.target.value }) } },
        values.map((value) =>
          h("option", { value, selected: value === asked[name], text: said(value) || t("every") }),
        ),
      ),
    );
  const only = h(
    "div",
    { class: "segments", role: "group", "aria-label": t("rollouts.only") },
    ONLY.map((name) =>
      h("a", {
        href: address(run.name, "rollouts", { ...asked, at: "", only: name }),
        "aria-current": name === asked.only ? "true" : null,
        text: t(`only.${name}`),
      }),
    ),
  );
  const families = choose(
    "family",
    t("family"),
    ["", asked.family].filter((name, i, all) => all.indexOf(name) === i),
    familyName,
  );
  source.families(asked.stage).then(
    (names) =>
      fill(
        families.querySelector("select"),
        ["", ...names].map((value) =>
          h("option", {
            value,
            selected: value === asked.family,
            text: value ? familyName(value) : t("every"),
          }),
        ),
      ),
    () => {},
  );
  const step = h(
    "label",
    null,
    t("step"),
    h("input", {
      type: "number",
      min: 1,
      value: asked.step,
      placeholder: t("every"),
      "aria-label": t("step"),
      on: { change: (event) => go(run, asked, { step: event.target.value }) },
    }),
  );
  return h(
    "div",
    { class: "filters" },
    only,
    stages.length > 1 ? choose("stage", t("stage"), stages) : null,
    families,
    step,
  );
}

async function read(run, asked, source, list, foot, bar, first) {
  fill(foot);
  let found;
  try {
    found = await source.rollouts(asked.stage, {
      family: asked.family,
      only: asked.only,
      step: asked.step,
      at: asked.at,
      limit: PAGE,
    });
  } catch (error) {
    fill(list, h("p", { class: "failed", text: error.message }));
    return;
  }
  list.setAttribute("aria-busy", "false");
  const [low, high] = [found.first?.[0], found.last?.[0]];
  const input = bar.querySelector("input[type=number]");
  if (high) Object.assign(input, { max: high, title: `${low}–${high}` });
  const groups = grouped(found.rollouts).map((group) => problem(run, asked, group));
  if (first)
    fill(
      list,
      groups.length
        ? groups
        : h(
            "div",
            { class: "nothing" },
            h("h2", { text: t("rollouts.nothing") }),
            h("p", { text: t("rollouts.nothing.why") }),
          ),
    );
  else list.append(...groups);
  if (found.next) {
    foot.append(
      h(
        "button",
        {
          class: "button",
          on: { click: () => read(run, { ...asked, at: found.next }, source, list, foot, bar, false) },
        },
        icon("down"),
        t("rollouts.more"),
      ),
    );
  }
}

/** Those to one problem of one step together, in their order. */
function grouped(records) {
  const groups = [];
  for (const record of records) {
    const last = groups.at(-1);
    if (
      last &&
      last[0].step === record.step &&
      last[0].group === record.group &&
      last[0].prompt === record.prompt
    )
      last.push(record);
    else groups.push([record]);
  }
  return groups;
}

function problem(run, asked, group) {
  const { step, family, level, prompt } = group[0];
  const right = group.filter(({ strict }) => strict).length;
  return h(
    "article",
    { class: "problem", "aria-label": `${familyName(family)}, ${t("step.n", { n: step })}` },
    h(
      "header",
      { class: "row" },
      h("b", { text: plain(familyName(family)) }),
      h("span", { class: "muted small", text: t("problem.at", { level: String(level ?? ""), step }) }),
      h("span", { class: "tally", text: t("problem.right", { right, n: group.length }) }),
    ),
    h("p", { class: "bubble", dir: "auto", text: plain(prompt) }),
    h(
      "ol",
      { class: "tries" },
      group.map((record) => attempt(run, asked, record)),
    ),
  );
}

function attempt(run, asked, record) {
  const kind = record.undecided
    ? "undecided"
    : record.shadow
      ? "doubted"
      : record.strict
        ? "right"
        : record.lenient
          ? "form"
          : "wrong";
  const facts = [
    t("reward.n", { n: record.reward ?? "–" }),
    t("tokens.n", { n: record.length ?? "–" }),
    record.stop === "length" ? t("cut.off") : null,
    typeof record.logp === "number" ? `log p ${number(record.logp)}` : null,
  ];
  const link = asked.still ? null : address(run.name, "rollouts", { stage: asked.stage, at: record.id });
  const mark = { right: "done", wrong: "cross", doubted: "search", form: "more", undecided: "help" }[kind];
  return h(
    "li",
    { class: `try ${kind}` },
    h("span", { class: `verdict ${kind}` }, icon(mark, 16), t(`verdict.${kind}`)),
    h("div", { class: "try-text" }, said(parted(record.reply))),
    h(link ? "a" : "span", {
      class: "try-facts",
      href: link,
      title: link && t("link.rollout"),
      text: facts.filter(Boolean).join(" · "),
    }),
  );
}
