// What a new conversation shows: who is here, what it can, what it can't, and where it comes from.

import { fill, h } from "../app/dom.js";
import { familyName, language, short, t } from "../app/i18n.js";
import { icon } from "../app/icons.js";
import {
  answered,
  choose,
  chosen,
  labelOf,
  modelOf,
  models,
  single,
  stagesOf,
  wholeCostOf,
} from "./models.js";
import { kinds, problem } from "./judging.js";
import { session } from "./session.js";
import { stageMap } from "./stages.js";

const EXAMPLES = 3;
const KINDS = 14;

export function emptyState() {
  const model = modelOf(chosen().length > 1 ? single() : chosen()[0]);
  if (!models().length && !answered()) return h("p", { class: "nothing muted", text: t("loading") });
  if (!model) return away();
  const stages = stagesOf(model.id);
  return h(
    "div",
    { class: "empty" },
    h("h1", { text: t(model.panel ? "empty.title" : "empty.title.plain") }),
    h("p", { class: "lead", text: about(model) }),
    examples(model),
    model.panel &&
      h(
        "div",
        { class: "can" },
        h(
          "section",
          null,
          h("h2", { text: t("empty.can") }),
          h(
            "ul",
            { class: "kinds-list" },
            model.panel.kinds
              .slice(0, KINDS)
              .map((kind) => h("li", { class: "chip", text: familyName(kind) })),
          ),
        ),
        h("section", null, h("h2", { text: t("empty.cannot") }), h("p", { text: t("empty.cannot.why") })),
      ),
    stages.length > 1 &&
      h(
        "section",
        { class: "made" },
        h(
          "div",
          { class: "made-head" },
          h("h2", { text: t("empty.made") }),
          h(
            "button",
            { class: "button", on: { click: () => choose(stages.map(({ id }) => id)) } },
            icon("columns", 18),
            t("empty.compare"),
          ),
        ),
        stageMap(stages),
      ),
  );
}

function about(model) {
  const cost = wholeCostOf(model);
  const size = model.parameters ? short(model.parameters) : null;
  if (!size) return t("empty.about.unknown", { name: labelOf(model.id) });
  return t(cost ? "empty.about" : "empty.about.free", {
    size,
    cost: cost ?? "",
    name: model.id,
    n: model.context ?? 0,
  });
}

const made = new Map(); // model's id -> problems to try

/** What to try: problems of what it was taught, and the menu of all. */
function examples(model) {
  const box = h("div", { class: "examples" });
  const card = (text, drawing, go) =>
    h("button", { class: "example", on: { click: go } }, h("span", { text }), icon(drawing, 16));
  const shown = (list) =>
    fill(
      box,
      list.map(({ prompt, ...check }) =>
        card(prompt, "right", () => session.send(prompt, { check: check.family ? check : null })),
      ),
      card(t("empty.check"), "check", () => session.tell("problems")),
    );
  if (!model.panel) shown([]);
  else if (answered() === "no") shown(tested(model));
  else if (answered()) {
    if (!made.has(model.id)) made.set(model.id, taught(model));
    made.get(model.id).then(shown);
  }
  return box;
}

/** Problems in the language of the page, which a program judges; where none can be made, those of a test. */
async function taught({ panel }) {
  const lang = language();
  try {
    const known = await kinds();
    const some = panel.kinds.map((kind) => known.find(({ family }) => family === kind));
    const asked = some
      .filter(Boolean)
      .slice(0, EXAMPLES)
      .map(({ family, levels }) => problem(family, levels[0], lang));
    if (asked.length) return (await Promise.all(asked)).map((each) => ({ lang, ...each }));
  } catch (error) {
    console.warn(error);
  }
  return tested({ panel });
}

const tested = ({ panel }) => panel.examples.slice(0, EXAMPLES).map((prompt) => ({ prompt }));

/** No model is known: the page was opened without its server. */
const away = () =>
  h(
    "div",
    { class: "nothing" },
    icon("away", 32),
    h("h2", { text: t(models().length ? "error.away.title" : "empty.none") }),
    h("p", { text: t("error.away.history") }),
  );
