// From what a run was made, to repeat it: its recipe, its texts, its notes.

import { h } from "../app/dom.js";
import { t } from "../app/i18n.js";
import { plain } from "./words.js";

export function recipe(run) {
  const { record } = run;
  const versions = Object.entries(record.libraries ?? {})
    .map(([name, version]) => `${name} ${version}`)
    .join(", ");
  const facts = [
    ["nomoat", `${record.nomoat ?? "?"}${record.commit ? ` (${record.commit.slice(0, 12)})` : ""}`],
    [t("libraries"), versions],
    [t("texts"), [...new Set(run.texts.map(({ source }) => source).filter(Boolean))].join(", ")],
  ];
  return h(
    "section",
    { class: "card wide", id: "recipe" },
    h("h2", { text: t("recipe") }),
    h("p", { class: "muted", text: t("recipe.note") }),
    h(
      "dl",
      { class: "facts" },
      facts
        .filter(([, value]) => value)
        .map(([name, value]) => h("div", null, h("dt", { text: name }), h("dd", { text: plain(value) }))),
    ),
    run.notes.length
      ? h(
          "details",
          null,
          h("summary", { text: t("notes", { n: run.notes.length }) }),
          h(
            "ul",
            { class: "notes" },
            run.notes.map(({ stage, text }) => h("li", { text: plain(`${stage ?? run.name}: ${text}`) })),
          ),
        )
      : null,
    h(
      "details",
      null,
      h("summary", { text: t("recipe.whole") }),
      h("pre", { class: "code", tabindex: "0", text: plain(JSON.stringify(run.recipe, null, 1)) }),
    ),
  );
}
