// The parts of a run's page: `[key, what it shows, how it is made]`; a part is made again only if that has changed.

import { h } from "../app/dom.js";
import { t } from "../app/i18n.js";
import { against, planned, receipt, shares } from "./cost.js";
import { recipe } from "./recipe.js";
import { further, ladder, matrix } from "./scores.js";
import { head, headlines, map, told } from "./story.js";
import { conversations, probes } from "./talk.js";
import { banner, charts, experts, KEY, learning } from "./training.js";
import { transfer } from "./transfer.js";

const STEADY = ({ name, state, kind }) => [name, state, kind];
const trained = (run) => run.stages.filter(({ steps, step }) => steps && step);

/** What comes later than the page: a place for it until then. */
export function later(promise, build) {
  const place = h("div", { class: "later", "aria-busy": "true" });
  promise.then(
    (value) => {
      const made = [build(value)].flat().filter(Boolean);
      if (made.length) place.replaceWith(...made);
      else place.remove();
    },
    (error) => place.replaceWith(h("p", { class: "failed", text: error.message })),
  );
  return place;
}

const figures = (...list) =>
  list.flat().filter(Boolean).length ? h("div", { class: "figures" }, list) : null;
const section = (title, note, ...children) =>
  children.flat().filter(Boolean).length
    ? h(
        "section",
        null,
        h(
          "div",
          { class: "section-head" },
          h("h2", { text: title }),
          note && h("p", { class: "muted", text: note }),
        ),
        children,
      )
    : null;

/** The first screen: sentence, figures, stages. */
export function opening(run, at, actions) {
  return [
    ["head", [run.name, run.state, run.receipt.units], () => head(run, actions)],
    [
      "story",
      [run.best, run.before, run.state, run.stages.map(STEADY), run.receipt.total, run.plan, run.scores.bits],
      () => h("section", { class: "story", "aria-label": t("story") }, told(run), headlines(run)),
    ],
    [
      "map",
      [run.stages.map(STEADY), run.best, run.scores[run.best?.how ?? "sampled"]],
      () => map(run, at.stage),
    ],
  ];
}

/** Right answers: stages by name, then families. */
export function right(run, at) {
  return [
    [
      "ladder",
      [run.scores, run.before, run.best],
      () =>
        section(
          t("right"),
          t("right.note"),
          figures(ladder(run, "sampled", at.chart("sampled")), ladder(run, "greedy", at.chart("greedy"))),
          matrix(run, "sampled", at.chart("families")) ?? matrix(run, "greedy", at.chart("families")),
          further(run),
        ),
    ],
  ];
}

export const talked = (run) => [["conversations", [run.samples], () => conversations(run)]];

/** The chart that says most of each stage that trained. */
export function courses(run, at, curve) {
  const stages = trained(run);
  if (!stages.length) return [];
  return [
    [
      "courses",
      stages.map(STEADY),
      () =>
        section(
          t("courses"),
          t("courses.note"),
          h(
            "div",
            { class: "figures" },
            stages.map((stage) =>
              later(curve(stage.name), (found) =>
                charts(run, stage, found, at.chartOf(stage.name), [KEY[stage.kind] ?? "loss"]),
              ),
            ),
          ),
        ),
    ],
  ];
}

/** What the run does now. */
export function now(run, at, curve) {
  const stage = run.stages.find(({ state }) => state === "running");
  if (!stage || !stage.steps) return [];
  const shown = stage.kind === "rl" ? ["reward", "length"] : ["loss", "load_max", "reward"];
  return [
    [
      "now",
      STEADY(stage),
      () =>
        h(
          "section",
          { class: "now", "aria-label": t("now") },
          banner(stage),
          h(
            "div",
            { class: "figures" },
            later(curve(stage.name), (found) => charts(run, stage, found, at.chartOf(stage.name), shown)),
          ),
        ),
    ],
  ];
}

/** All that is known of one stage. */
export function stagePage(run, name, at, curve) {
  const stage = run.stages.find((each) => each.name === name);
  if (!stage)
    return [
      ["none", name, () => h("div", { class: "nothing" }, h("h2", { text: t("stage.none", { name }) }))],
    ];
  const verdict = run.learning.find((each) => each.stage === name);
  const begun = stage.steps > 0;
  return [
    ["banner", [STEADY(stage), stage.bought], () => banner(stage)],
    ["learning", verdict?.findings ?? null, () => (verdict ? learning(verdict) : null)],
    [
      "charts",
      [name, begun],
      () =>
        begun
          ? h(
              "div",
              { class: "figures" },
              later(curve(name), (found) => [
                ...charts(run, stage, found, at.chartOf(name)),
                experts(run, stage, found, at.chartOf(name)),
              ]),
            )
          : h(
              "div",
              { class: "nothing" },
              h("h2", { text: t("stage.still", { name }) }),
              h("p", { text: t(stage.state === "waiting" ? "stage.waits" : "stage.steps") }),
            ),
    ],
  ];
}

export const learned = (run) =>
  run.learning.flatMap((each) => [
    [`verdict-${each.stage}`, each.findings, () => learning(each)],
    [`probes-${each.stage}`, each.probes, () => probes(each)],
  ]);

export const costs = (run, at) => [
  ["receipt", [run.receipt], () => receipt(run)],
  [
    "plan",
    [run.plan, run.receipt.shares],
    () => figures(against(run, at.chart("plan")), shares(run, at.chart("shares"))),
  ],
  [
    "planned",
    [run.plan],
    () => (run.plan.length ? planned(run) : h("p", { class: "muted", text: t("plan.none") })),
  ],
];

export const carried = (run, at) => [
  [
    "transfer",
    run.transfer,
    () =>
      run.transfer ? section(t("transfer"), t("transfer.note"), transfer(run, at.chart("rings"))) : null,
  ],
];
export const uncarried = (run) =>
  run.transfer
    ? []
    : [
        [
          "uncarried",
          null,
          () =>
            h(
              "div",
              { class: "nothing" },
              h("h2", { text: t("transfer") }),
              h("p", { text: t("transfer.none") }),
            ),
        ],
      ];

export const origin = (run) => [["recipe", [run.record, run.notes, run.texts], () => recipe(run)]];

/** Puts the parts in place; what has not changed stays as it is, with what a person has opened in it. */
export function placed(main, parts, made) {
  const nodes = [];
  const kept = new Map();
  for (const [key, shown, build] of parts) {
    const sign = JSON.stringify(shown) ?? "";
    const old = made.get(key);
    const node = old && old.sign === sign ? old.node : build();
    kept.set(key, { sign, node });
    if (node) nodes.push(node);
  }
  nodes.forEach((node, i) => {
    if (main.children[i] !== node) main.insertBefore(node, main.children[i] ?? null);
  });
  while (main.children.length > nodes.length) main.lastElementChild.remove();
  return kept;
}
