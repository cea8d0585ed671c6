// Which of several branches is seen: ‹ 2 of 3 ›.

import { h } from "../app/dom.js";
import { icon } from "../app/icons.js";
import { t } from "../app/i18n.js";
import { session } from "./session.js";

/** Buttons to the branches beside a node; null where it is the only one. */
export function switcher(branches, node, place) {
  if (branches.length < 2) return null;
  const at = branches.findIndex(({ id }) => id === node.id);
  const to = (label, drawing, n) =>
    h(
      "button",
      {
        class: "action",
        "aria-label": t(label),
        title: t(label),
        disabled: !branches[n],
        on: { click: () => session.choose(place, branches[n].id) },
      },
      icon(drawing, 16),
    );
  return h(
    "span",
    { class: "switcher", role: "group", "aria-label": t("branches") },
    to("branch.previous", "left", at - 1),
    h("span", { class: "number small", text: t("branch.of", { at: at + 1, n: branches.length }) }),
    to("branch.next", "right", at + 1),
  );
}
