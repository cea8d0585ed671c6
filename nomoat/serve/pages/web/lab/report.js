// The page that a run leaves as a file: what the lab shows of it, in one piece, with nothing to load.

import { $, fill, h } from "../app/dom.js";
import { given, language, LANGUAGES, setLanguage, t } from "../app/i18n.js";
import { icon } from "../app/icons.js";
import { otherTheme, theme } from "../app/theme.js";
import { rollouts } from "./rollouts.js";
import { slug } from "./figure.js";
import { charts, experts } from "./training.js";
import * as views from "./views.js";

const read = (id) => JSON.parse($(`#${id}`).textContent);

function start() {
  given(read("words"));
  const { run, curves, tries } = read("snapshot");
  const at = { stage: (name) => `#stage-${slug(name)}`, chart: () => null, chartOf: () => () => null };
  const parts = [
    ...views.opening(run, at, []),
    ...views.talked(run),
    ...views.right(run, at),
    ...views.learned(run),
    ...taught(run, at, curves),
    ...tried(run, tries),
    ...views.costs(run, at),
    ...views.carried(run, at),
    ...views.origin(run),
    ["foot", null, () => h("p", { class: "note", text: t("report.live", { run: run.name }) })],
  ];
  const main = h("main", { id: "main" });
  document.title = `${run.name} · nomoat`;
  document.body.append(bar(), h("div", { class: "lab" }, main));
  views.placed(main, parts, new Map());
  const there = location.hash && document.getElementById(location.hash.slice(1));
  if (there) there.scrollIntoView();
}

/** All charts of each stage that trained. */
const taught = (run, at, curves) =>
  run.stages
    .filter(({ name }) => curves[name])
    .map((stage) => [
      `stage-${stage.name}`,
      stage.name,
      () =>
        h(
          "section",
          { id: `stage-${slug(stage.name)}` },
          h(
            "div",
            { class: "section-head" },
            h("h2", { text: t("stage.curves", { name: stage.name }) }),
            h("p", { class: "muted", text: stage.bought }),
          ),
          h(
            "div",
            { class: "figures" },
            charts(run, stage, curves[stage.name], at.chartOf()),
            experts(run, stage, curves[stage.name], at.chartOf()),
          ),
        ),
    ]);

/** The rollouts that the file carries, of the stage that was reinforced last. */
function tried(run, tries) {
  const stage = Object.keys(tries).at(-1);
  if (!stage) return [];
  const source = { families: async () => [], rollouts: async () => ({ rollouts: tries[stage] }) };
  return [
    [
      "tries",
      stage,
      () => {
        const view = rollouts(run, { stage, still: true }, source);
        $(".filters", view).remove();
        return view;
      },
    ],
  ];
}

function bar() {
  const other = language() === "en" ? "de" : "en";
  const drawn = () => fill(button, icon(theme() === "dark" ? "sun" : "moon"));
  const button = h("button", {
    class: "icon-button",
    "aria-label": t("theme"),
    title: t("theme"),
    on: { click: otherTheme },
  });
  document.addEventListener("themechange", drawn);
  drawn();
  return h(
    "header",
    { class: "shell" },
    h("a", { class: "skip", href: "#main", text: t("skip") }),
    h("span", { class: "brand", text: "nomoat" }),
    h(
      "div",
      { class: "shell-end" },
      h(
        "button",
        {
          class: "icon-button word",
          "aria-label": `${t("language")}: ${other.toUpperCase()}`,
          title: LANGUAGES[other],
          on: { click: () => setLanguage(other) },
        },
        h("span", { text: other.toUpperCase() }),
      ),
      button,
    ),
  );
}

start();
