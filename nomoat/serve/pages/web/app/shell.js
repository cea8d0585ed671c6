// The head that both pages have: Chat and Lab, theme, language, and the help sheet.

import { fill, h } from "./dom.js";
import { sheet } from "./dialog.js";
import { LANGUAGES, language, setLanguage, t } from "./i18n.js";
import { icon } from "./icons.js";
import { caps, shortcut, shortcuts } from "./keys.js";
import { otherTheme, theme } from "./theme.js";

/**
 * The head of a page, to be put first into its body.
 * @param {"chat" | "lab"} page
 * @param {{before?: any[], after?: any[]}} [more] what the page adds to it, at its left and right
 * @returns {HTMLElement}
 */
export function shell(page, { before = [], after = [] } = {}) {
  const tab = (name, href) =>
    h("a", { href, text: t(`tab.${name}`), "aria-current": name === page && "page" });
  shortcut("?", t("key.help"), help);
  return h(
    "header",
    { class: "shell" },
    h("a", { class: "skip", href: "#main", text: t("skip") }),
    before,
    h("a", { class: "brand", href: "/", "aria-label": "nomoat" }, mark(), h("span", { text: "nomoat" })),
    h("nav", { class: "tabs", "aria-label": t("pages") }, tab("chat", "/"), tab("lab", "/lab")),
    h("div", { class: "shell-end" }, after, languageButton(), themeButton(), helpButton()),
  );
}

/** The mark: a bridge where a moat was. */
function mark() {
  const box = icon("", 22);
  box.setAttribute("class", "mark");
  box.firstChild.setAttribute(
    "d",
    "M2.5 13.5h15M4.5 13.5V9.2M15.5 13.5V9.2M4.5 10.5c3-4.6 8-4.6 11 0M2.5 16.5h15",
  );
  return box;
}

function themeButton() {
  const button = h("button", {
    class: "icon-button",
    "aria-label": t("theme"),
    title: t("theme"),
    on: { click: otherTheme },
  });
  const drawn = () => fill(button, icon(theme() === "dark" ? "sun" : "moon"));
  document.addEventListener("themechange", drawn);
  drawn();
  return button;
}

function languageButton() {
  const other = language() === "en" ? "de" : "en";
  const label = `${t("language")}: ${other.toUpperCase()}`;
  const props = { class: "icon-button word", "aria-label": label, title: LANGUAGES[other] };
  return h(
    "button",
    { ...props, on: { click: () => setLanguage(other) } },
    h("span", { text: other.toUpperCase() }),
  );
}

const helpButton = () =>
  h(
    "button",
    { class: "icon-button", "aria-label": t("help"), title: `${t("help")} (?)`, on: { click: help } },
    icon("help"),
  );

/** The sheet of shortcuts. */
export function help() {
  const rows = shortcuts().map(({ keys, label }) =>
    h(
      "tr",
      null,
      h("td", { text: label }),
      h(
        "td",
        { class: "caps" },
        caps(keys).map((cap) => h("kbd", { text: cap })),
      ),
    ),
  );
  sheet(t("help.title"), [h("table", { class: "shortcuts" }, h("tbody", null, rows))]);
}
