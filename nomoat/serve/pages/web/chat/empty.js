// What a new conversation shows: who is here, what it can, what it can't, and where it comes from.

import { h } from "../app/dom.js";
import { familyName, short, t } from "../app/i18n.js";
import { icon } from "../app/icons.js";
import { choose, chosen, labelOf, modelOf, models, single, stagesOf, unread, wholeCostOf } from "./models.js";
import { session } from "./session.js";
import { stageMap } from "./stages.js";

const EXAMPLES = 3;
const KINDS = 14;

export function emptyState() {
  const model = modelOf(chosen().length > 1 ? single() : chosen()[0]);
  if (unread()) return h("p", { class: "nothing muted", text: t("loading") });
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

/** What to try: questions that it was taught, and a problem that is judged. */
function examples(model) {
  const asked = (model.panel?.examples ?? []).slice(0, EXAMPLES);
  const card = (text, drawing, go) =>
    h("button", { class: "example", on: { click: go } }, h("span", { text }), icon(drawing, 16));
  return h(
    "div",
    { class: "examples" },
    asked.map((text) => card(text, "right", () => session.send(text))),
    card(t("empty.check"), "check", () => session.tell("problems")),
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
