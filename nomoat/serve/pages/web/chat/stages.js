// The stages of a run: what each cost and how much it gets right.

import { h, svg } from "../app/dom.js";
import { t } from "../app/i18n.js";
import { costOf, labelOf, scoreOf, sizeOf } from "./models.js";

/** A score as a bar of its own length, with the interval that it lies in. */
export function scoreBar({ share, low, high, said, of }) {
  const label = t("score.said", { share: said, of: of ?? "" });
  const x = (value) => 100 * Math.min(1, Math.max(0, value));
  return svg(
    "svg",
    {
      class: "score-bar",
      viewBox: "0 0 100 6",
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": label,
    },
    svg("rect", { class: "ground", x: 0, y: 2, width: 100, height: 2, rx: 1 }),
    svg("rect", { class: "share", x: 0, y: 2, width: x(share), height: 2, rx: 1 }),
    svg("rect", {
      class: "interval",
      x: x(low),
      y: 0,
      width: Math.max(0.6, x(high) - x(low)),
      height: 6,
      rx: 1,
    }),
  );
}

/** The way from the first stage to the last, each with its score and cost. */
export function stageMap(stages) {
  return h(
    "ol",
    { class: "stage-map" },
    stages.map((model) => {
      const score = scoreOf(model);
      return h(
        "li",
        null,
        h(
          "div",
          { class: "stage-name" },
          h("span", { text: labelOf(model.id) }),
          score && h("b", { class: "number", text: score.said }),
        ),
        score && scoreBar(score),
        h("p", { class: "small muted", text: costOf(model) ?? "" }),
        h("p", { class: "small muted", text: sizeOf(model) }),
      );
    }),
  );
}
