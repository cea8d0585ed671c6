// The menu that makes a problem of any kind and level.

import { h } from "../app/dom.js";
import { sheet } from "../app/dialog.js";
import { familyName, language, t } from "../app/i18n.js";
import { icon } from "../app/icons.js";
import { kinds, problem } from "./judging.js";

/**
 * Opens the menu; `taken` gets the problem that was made: {family, level, seed, prompt, lang}.
 * @param {(problem: any) => void} taken
 */
export async function openProblems(taken) {
  const list = h("div", { class: "kinds" }, h("p", { class: "muted", text: t("loading") }));
  const box = sheet(t("check"), [h("p", { class: "muted lead", text: t("check.why") }), list], {
    wide: true,
  });
  const make = async (family, level) => {
    try {
      const made = await problem(family, level, language());
      box.close();
      taken({ lang: language(), ...made });
    } catch (error) {
      list.prepend(h("p", { class: "problem wrong", role: "alert", text: error.message }));
    }
  };
  try {
    const all = await kinds();
    list.replaceChildren(any(all, make), ...all.map((kind) => row(kind, make)));
    list.querySelector("button")?.focus();
  } catch (error) {
    list.replaceChildren(h("p", { class: "problem", role: "alert", text: error.message }));
  }
}

function any(all, make) {
  const go = () => {
    const { family, levels } = all[Math.floor(Math.random() * all.length)];
    make(family, levels[Math.floor(Math.random() * Math.min(levels.length, 3))]);
  };
  return h("button", { class: "button any", on: { click: go } }, icon("dice", 16), t("check.any"));
}

function row({ family, levels, own }, make) {
  const label = familyName(family);
  return h(
    "div",
    { class: "kind" },
    h(
      "div",
      { class: "kind-name" },
      h("span", { text: label }),
      own && h("span", { class: "chip", text: t("check.own") }),
    ),
    h(
      "div",
      { class: "levels", role: "group", "aria-label": `${label}: ${t("check.levels")}` },
      levels.map((level) =>
        h("button", {
          class: "level number",
          text: level,
          "aria-label": t("check.make", { family: label, level }),
          on: { click: () => make(family, level) },
        }),
      ),
    ),
  );
}
