// Light, dark, or as the system has it.

import { keepWord, keptWord } from "./kept.js";

const NAMES = ["light", "dark"];
const DARK = matchMedia("(prefers-color-scheme: dark)");

/** "light" or "dark": what is seen now. */
export function theme() {
  return (
    keptWord("theme", NAMES) ?? document.documentElement.dataset.theme ?? (DARK.matches ? "dark" : "light")
  );
}

/** Sets the theme (null: the system's); what draws by itself listens to "themechange" on document. */
export function setTheme(name) {
  keepWord("theme", name);
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  told();
}

export const otherTheme = () => setTheme(theme() === "dark" ? "light" : "dark");

/** The value of a design token as it is now: `colour("accent")`. */
export const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function told() {
  const bar = document.querySelector('meta[name="theme-color"]');
  if (bar) bar.setAttribute("content", colour("ground"));
  document.dispatchEvent(new CustomEvent("themechange", { detail: theme() }));
}

DARK.addEventListener("change", told);
