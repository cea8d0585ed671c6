// All runs, those first that were worked on last.

import { h } from "../app/dom.js";
import { ago, t } from "../app/i18n.js";
import { address, comparison } from "./routes.js";
import { between, bytes, chip, share, time } from "./words.js";

/** The page of all runs. */
export function list(runs, directory) {
  if (!runs.length) return empty(directory);
  const form = h(
    "form",
    {
      class: "compare-bar",
      hidden: true,
      on: {
        submit: (event) => {
          event.preventDefault();
          compare(form);
        },
      },
    },
    h("span", { class: "muted", text: t("compare.two") }),
    h("button", { class: "button primary", type: "submit", text: t("compare") }),
  );
  const marked = () => [...document.querySelectorAll(".run-row input:checked")];
  const changed = (event) => {
    const chosen = marked();
    if (chosen.length > 2) chosen.find((box) => box !== event.target).checked = false;
    form.hidden = marked().length !== 2;
  };
  const compare = () => {
    const [one, other] = marked().map(({ value }) => value);
    location.hash = comparison(one, other);
  };
  return h(
    "div",
    { class: "runs-page" },
    h(
      "header",
      { class: "run-head" },
      h("h1", { text: t("runs") }),
      h("p", { class: "muted", text: t("runs.note", { n: runs.length }) }),
    ),
    h(
      "nav",
      { "aria-label": t("runs") },
      h(
        "ul",
        { class: "run-list" },
        runs.map((run) => row(run, changed)),
      ),
    ),
    form,
  );
}

function row(run, changed) {
  if (run.state === "damaged") {
    return h(
      "li",
      { class: "run-row damaged" },
      h("div", { class: "run-name" }, h("b", { text: run.name }), chip("damaged")),
      h("p", { class: "small muted", text: run.why }),
    );
  }
  const at =
    run.stage && run.state !== "finished"
      ? t("run.at", { stage: run.stage }) +
        (run.steps ? `, ${t("step.of", { n: run.step, of: run.steps })}` : "")
      : "";
  const facts = [
    run.recipe,
    at,
    run.state === "running" && run.eta_seconds ? t("left", { time: time(run.eta_seconds) }) : "",
    run.updated ? ago(1000 * run.updated) : "",
    run.bytes ? bytes(run.bytes) : "",
  ].filter(Boolean);
  return h(
    "li",
    { class: `run-row ${run.state}` },
    h("input", {
      type: "checkbox",
      value: run.name,
      "aria-label": t("compare.choose", { name: run.name }),
      on: { change: changed },
    }),
    h(
      "a",
      { class: "run-link", href: address(run.name) },
      h("span", { class: "run-name" }, h("b", { text: run.name }), chip(run.state)),
      h("span", { class: "run-facts", text: facts.join(" · ") }),
      h(
        "span",
        { class: "pips", "aria-hidden": "true" },
        run.stages.map(({ state, name }) =>
          h("span", null, h("i", { class: state }), h("small", { text: name })),
        ),
      ),
      run.best
        ? h(
            "span",
            { class: "run-best" },
            h("b", { text: share(run.best.value) }),
            h("small", { text: `${run.best.model}, ${between(run.best)}` }),
          )
        : h("span", { class: "run-best none", text: t("unmeasured") }),
    ),
  );
}

function empty(directory) {
  const command = (text) => h("code", { class: "command", text });
  return h(
    "div",
    { class: "nothing lab-nothing" },
    h("h1", { text: t("nothing.title") }),
    h("p", { text: directory ? t("nothing.in", { directory }) : t("nothing.none") }),
    h(
      "ol",
      { class: "commands" },
      h("li", null, command("nomoat run smoke"), h("span", { text: t("nothing.smoke") })),
      h("li", null, command("nomoat run cpu"), h("span", { text: t("nothing.cpu") })),
    ),
    h("p", { class: "muted small", text: t("nothing.live") }),
  );
}

/** The runs beside a run's page. */
export function aside(runs, current) {
  return h(
    "nav",
    { class: "aside", "aria-label": t("runs") },
    h("a", { class: "all", href: "#/", text: t("runs.all") }),
    h(
      "ul",
      null,
      runs.map((run) =>
        h(
          "li",
          null,
          h(
            "a",
            { href: address(run.name), "aria-current": run.name === current ? "page" : null },
            h(
              "span",
              { class: "aside-name" },
              h("i", { class: `dot ${run.state}`, "aria-hidden": "true" }),
              run.name,
            ),
            h("small", {
              text: run.best ? `${run.best.model} ${share(run.best.value)}` : t(`state.${run.state}`),
            }),
          ),
        ),
      ),
    ),
  );
}
