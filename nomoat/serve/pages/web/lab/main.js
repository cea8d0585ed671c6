// The lab: a link is a view, and a view follows its run while that is trained.

import { $, fill, h, throttled } from "../app/dom.js";
import { notice } from "../app/dialog.js";
import { load, t } from "../app/i18n.js";
import { shortcut } from "../app/keys.js";
import { shell } from "../app/shell.js";
import { compare } from "./compare.js";
import { aside, list } from "./list.js";
import * as live from "./live.js";
import { rollouts } from "./rollouts.js";
import { address, comparison, parsed } from "./routes.js";
import { at as progress, brief, done } from "./story.js";
import * as views from "./views.js";
import { time } from "./words.js";

const LIST_MS = 4000; // between two looks at the list
const PLOT_MS = 250; // between two drawings of a curve that grows

let watched = null;
let made = new Map();
let runs = { runs: [], directory: null };
let shown = ""; // the view that stands there
let away = null;
const main = h("main", { id: "main", tabindex: "-1" });
const side = h("div", { class: "side" });

/** Links of a run's parts. */
const places = (name) => ({
  stage: (stage) => address(name, "stage", {}, stage),
  chart: (chart) => address(name, CHARTS[chart] ?? "overview", {}, chart),
  chartOf: (stage) => (chart) => address(name, "stage", {}, stage, chart),
});
const CHARTS = { plan: "cost", shares: "cost", rings: "transfer" };
const TABS = ["overview", "stage", "rollouts", "learning", "cost", "transfer", "recipe"];

function tabs(run, view, detail) {
  const current =
    run.stages.find(({ state }) => state === "running") ??
    run.stages.findLast(({ steps }) => steps) ??
    run.stages[0];
  const there = {
    stage: current,
    rollouts: run.learning.length,
    learning: run.learning.length,
    transfer: run.transfer,
  };
  const tab = (name) =>
    h("a", {
      href:
        name === "stage" ? address(run.name, name, {}, detail[0] ?? current.name) : address(run.name, name),
      "aria-current": name === view ? "page" : null,
      text: t(`view.${name}`),
    });
  return h(
    "nav",
    { class: "views", "aria-label": t("views") },
    TABS.filter((name) => !(name in there) || there[name]).map(tab),
  );
}

function actions(run) {
  const others = runs.runs.filter(({ name, state }) => name !== run.name && state !== "damaged");
  if (!others.length) return [];
  const choose = h(
    "select",
    {
      class: "compare-with",
      "aria-label": t("compare.with"),
      on: {
        change: (event) => {
          if (event.target.value) location.hash = comparison(run.name, event.target.value);
        },
      },
    },
    h("option", { value: "", text: t("compare.with") }),
    others.map(({ name }) => h("option", { value: name, text: name })),
  );
  return [choose];
}

function parts(run, { view, detail, query }) {
  const at = places(run.name);
  const curve = (stage) => watched.curve(stage);
  const [head, story, map] = views.opening(run, at, actions(run));
  const crumb = [
    "crumb",
    run.name,
    () =>
      h(
        "p",
        { class: "crumb" },
        h("a", { href: "#/", text: t("runs") }),
        " / ",
        h("span", { text: run.name }),
      ),
  ];
  const nav = [
    "views",
    [view, detail[0], run.learning.length, Boolean(run.transfer)],
    () => tabs(run, view, detail),
  ];
  const of = {
    overview: () => [
      story,
      map,
      ...views.now(run, at, curve),
      ...views.talked(run),
      ...views.right(run, at),
      ...run.learning.map((each) => views.learned({ learning: [each] })[0]),
      ...views.courses(run, at, curve),
      views.costs(run, at)[1],
    ],
    stage: () => [map, ...views.stagePage(run, detail[0] ?? "", at, curve)],
    rollouts: () => [
      [
        "rollouts",
        query,
        () =>
          rollouts(run, query, {
            rollouts: (stage, asked) => watched.rollouts(stage, asked),
            families: (stage) => watched.families(stage),
          }),
      ],
    ],
    learning: () => views.learned(run),
    cost: () => views.costs(run, at),
    transfer: () => [...views.carried(run, at), ...views.uncarried(run)],
    recipe: () => views.origin(run),
  };
  return [crumb, head, nav, ...(of[view] ?? of.overview)()];
}

function draw() {
  const route = parsed(location.hash);
  if (!watched || route.run !== watched.name) return;
  made = views.placed(main, parts(watched.snapshot, route), made);
  for (const stage of watched.snapshot.stages) patch(stage);
  const eta = watched.snapshot.eta_seconds;
  const said = $(".run-head .eta", main);
  if (said && eta) said.textContent = t("left.all", { time: time(eta) });
  for (const link of document.querySelectorAll(".map a")) {
    const here =
      route.view === "stage" &&
      link.getAttribute("href") === address(watched.name, "stage", {}, route.detail[0] ?? "");
    link.classList.toggle("here", here);
  }
}

/** What a step changes: bars and words, without a new page. */
function patch(stage) {
  for (const place of main.querySelectorAll(`[data-stage="${CSS.escape(stage.name)}"]`)) {
    $(".bar i", place)?.style.setProperty("inline-size", `${100 * done(stage)}%`);
    const words = $(".stage-at", place);
    if (words) words.textContent = progress(stage);
    const few = $(".stage-brief", place);
    if (few) few.textContent = brief(stage);
  }
}

const plotted = throttled(() => {
  for (const box of main.querySelectorAll("figure.curves")) box.again?.();
}, PLOT_MS);

async function follow(name) {
  watched?.close();
  const it = (watched = new live.Watched(name, {
    onSnapshot: () => it === watched && draw(),
    onStep: (stage) => {
      if (it !== watched || !stage) return;
      patch(stage);
      plotted();
    },
    onState: (state) => it === watched && told(state),
  }));
  await it.open();
  return it === watched;
}

function told(state) {
  if (state === "away") away ??= notice(t("away"), { kind: "wrong", ms: 10 ** 9 });
  else {
    if (away) watched?.ask();
    away?.();
    away = null;
  }
}

async function open() {
  const route = parsed(location.hash);
  const view = JSON.stringify([route.run, route.view, route.detail[0]]);
  const moved = view !== shown;
  shown = view;
  document.title = [route.run ?? (route.view === "compare" ? t("compare") : t("runs")), "Lab · nomoat"].join(
    " · ",
  );
  try {
    if (moved || !runs.runs.length) runs = await live.runs();
    document.body.classList.toggle("with-aside", Boolean(route.run));
    fill(side, route.run ? aside(runs.runs, route.run) : null);
    if (!route.run) await openOther(route);
    else await openRun(route);
  } catch (error) {
    failed(error);
  }
  main.setAttribute("aria-busy", "false");
  if (moved) scrollTo(0, 0);
  reveal(location.hash);
}

async function openRun(route) {
  if (watched?.name !== route.run) {
    made = new Map();
    fill(main, h("p", { class: "muted loading", text: t("loading") }));
    if (!(await follow(route.run))) return;
    fill(main);
  }
  draw();
}

async function openOther({ view, detail }) {
  watched?.close();
  watched = null;
  made = new Map();
  if (view !== "compare") return fill(main, list(runs.runs, runs.directory));
  fill(main, h("p", { class: "muted loading", text: t("loading") }));
  const found = await live.compared(...detail);
  return fill(
    main,
    h("p", { class: "crumb" }, h("a", { href: "#/", text: t("runs") })),
    compare(found, (chart) => `${comparison(...detail)}/${encodeURIComponent(chart)}`),
  );
}

function failed(error) {
  made = new Map();
  watched?.close();
  watched = null;
  const missing = error.status === 404;
  fill(
    main,
    h(
      "div",
      { class: "nothing", role: "alert" },
      h("h1", { text: t(missing ? "missing" : "failed") }),
      h("p", { text: error.message }),
      missing
        ? h("a", { class: "button", href: "#/", text: t("runs.all") })
        : h("button", { class: "button", text: t("again"), on: { click: open } }),
    ),
  );
}

/** A chart that the link is about is brought into view. */
function reveal(hash, tries = 20) {
  const named =
    parsed(hash).detail.length >
    (parsed(hash).view === "stage" ? 1 : parsed(hash).view === "compare" ? 2 : 0);
  if (!named || location.hash !== hash) return;
  const link = [...main.querySelectorAll("figcaption a")].find((each) => each.getAttribute("href") === hash);
  if (link) link.closest("figure").scrollIntoView({ block: "center" });
  else if (tries) setTimeout(() => reveal(hash, tries - 1), 100);
}

/** The list looks again now and then: it is small, and runs may come from anywhere. */
async function lookAgain() {
  if (document.visibilityState !== "visible") return;
  const before = JSON.stringify(runs);
  try {
    runs = await live.runs();
  } catch {
    return;
  }
  if (JSON.stringify(runs) === before) return;
  const route = parsed(location.hash);
  if (route.run) fill(side, aside(runs.runs, route.run));
  else if (route.view !== "compare" && !main.querySelector("input:checked"))
    fill(main, list(runs.runs, runs.directory));
}

function neighbour(by) {
  const route = parsed(location.hash);
  if (!watched || !route.run) return false;
  const names = watched.snapshot.stages.map(({ name }) => name);
  const at = route.view === "stage" ? names.indexOf(route.detail[0]) : by < 0 ? names.length : -1;
  const next = names[at + by];
  if (!next) return false;
  location.hash = address(route.run, "stage", {}, next);
  return true;
}

await load("lab");
shortcut("r", t("key.runs"), () => {
  location.hash = "#/";
});
shortcut("o", t("key.overview"), () => {
  if (watched) location.hash = address(watched.name);
});
shortcut("[", t("key.before"), () => neighbour(-1));
shortcut("]", t("key.after"), () => neighbour(1));
document.body.append(shell("lab"), h("div", { class: "lab" }, side, main));
addEventListener("hashchange", open);
await open();
setInterval(lookAgain, LIST_MS);
