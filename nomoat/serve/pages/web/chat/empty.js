// What a new conversation shows: who is here, what it can, what it can't, and where it comes from.

import { h } from "../app/dom.js";
import { familyName, short, t } from "../app/i18n.js";
import { icon } from "../app/icons.js";
import { choose, chosen, labelOf, modelOf, models, stagesOf, wholeCostOf } from "./models.js";
import { session } from "./session.js";
import { stageMap } from "./stages.js";

const EXAMPLES = 4;
const KINDS = 14;

export function emptyState() {
  const model = modelOf(chosen()[0]);
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

function examples(model) {
  const some = model.panel?.examples ?? [];
  if (!some.length) return null;
  return h(
    "div",
    { class: "examples" },
    some
      .slice(0, EXAMPLES)
      .map((text) =>
        h(
          "button",
          { class: "example", on: { click: () => session.send(text) } },
          h("span", { text }),
          icon("right", 16),
        ),
      ),
  );
}

/** No model is known: the page was opened without its server. */
const away = () =>
  h(
    "div",
    { class: "nothing" },
    icon("away", 32),
    h("h2", { text: t(models().length ? "error.away.title" : "empty.none") }),
    h("p", { text: t("error.away.history") }),
  );
