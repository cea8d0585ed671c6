// What the page says, in English and German.

import { keepWord, keptWord } from "./kept.js";

export const LANGUAGES = { en: "English", de: "Deutsch" };
let texts = {};
let now = "en";

/**
 * Loads the words of a page: those that all pages share, and for any but "chat" its own.
 * @param {"chat" | "lab"} page
 */
export async function load(page) {
  now = keptWord("language", Object.keys(LANGUAGES)) ?? preferred();
  document.documentElement.lang = now;
  const files = [`/assets/text/${now}.json`];
  if (page !== "chat") files.push(`/assets/text/${page}.${now}.json`);
  const read = await Promise.all(files.map(async (file) => (await fetch(file)).json()));
  texts = Object.assign({}, ...read);
}

/** Takes the words of both languages as they are given: for a page that is a file. */
export function given(words) {
  now = keptWord("language", Object.keys(LANGUAGES)) ?? preferred();
  document.documentElement.lang = now;
  texts = words[now];
}

const preferred = () =>
  navigator.languages.some((each) => /^(de|en)/i.test(each))
    ? navigator.languages
        .find((each) => /^(de|en)/i.test(each))
        .slice(0, 2)
        .toLowerCase()
    : "en";

/** "en" or "de". */
export const language = () => now;

/** Keeps the language and opens the page again in it; what was typed is kept by the page. */
export function setLanguage(name) {
  keepWord("language", name);
  document.dispatchEvent(new CustomEvent("languagechange"));
  location.reload();
}

/**
 * A text by its key, `{name}` filled in from `values`.  A text may be a table of plural forms
 * (`{"one": …, "other": …}`), chosen by `values.n`.  A key without a text is shown as it is.
 */
export function t(key, values = {}) {
  let text = texts[key] ?? key;
  if (typeof text === "object") text = text[new Intl.PluralRules(now).select(values.n)] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? shown(values[name]) : whole));
}

export const has = (key) => key in texts;

const shown = (value) => (typeof value === "number" ? number(value) : String(value));

/** The name of a family of tasks as people say it; of one's own, as it is. */
export const familyName = (name) => (has(`family.${name}`) ? t(`family.${name}`) : name);

/** A number with at most so many digits that count. */
export function number(value, digits = 3) {
  const whole = Math.abs(value) >= 10 ** digits;
  const how = whole ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: digits };
  return new Intl.NumberFormat(now, how).format(value);
}

/** A number with as many digits behind the point as its neighbours. */
export const fixed = (value, digits = 2) =>
  new Intl.NumberFormat(now, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);

/** 1,900,952 as 1.9M. */
export const short = (value) =>
  new Intl.NumberFormat(now, { notation: "compact", maximumFractionDigits: 1 }).format(value);

/** A share as percent: 82 %, 0.3 %, <0.1 %. */
export function percent(share) {
  const shown = (value, digits) =>
    new Intl.NumberFormat(now, { style: "percent", maximumFractionDigits: digits }).format(value);
  if (share > 0 && share < 0.001) return `<${shown(0.001, 1)}`;
  return shown(share, share >= 0.1 || share === 0 ? 0 : 1);
}

/** Seconds as people say them: 0.42 s, 12 s, 3 min, 2 h 25 min, 4 d. */
export function seconds(value) {
  if (value < 90) return `${number(value, value < 10 ? 2 : 3)} s`;
  const minutes = Math.round(value / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${number(hours / 24)} ${now === "de" ? "Tage" : "days"}`;
}

/** Joules as mJ, J, kJ, MJ. */
export function joules(value) {
  const [unit, factor] =
    value < 1 ? ["mJ", 1e3] : value < 1e3 ? ["J", 1] : value < 1e6 ? ["kJ", 1e-3] : ["MJ", 1e-6];
  return `${number(value * factor)} ${unit}`;
}

/** An amount of money, small ones with two digits that count. */
export function money(value, currency) {
  const small = value > 0 && value < 0.1;
  const how = small ? { maximumSignificantDigits: 2, minimumFractionDigits: 0 } : {};
  return new Intl.NumberFormat(now, { style: "currency", currency, ...how }).format(value);
}

/** A time (milliseconds or ISO) as "5 minutes ago", "yesterday", or its date. */
export function ago(when) {
  const past = (Date.now() - new Date(when).getTime()) / 1000;
  const form = new Intl.RelativeTimeFormat(now, { numeric: "auto" });
  if (past < 60) return form.format(0, "second");
  if (past < 3600) return form.format(-Math.round(past / 60), "minute");
  if (past < 86400) return form.format(-Math.round(past / 3600), "hour");
  if (past < 7 * 86400) return form.format(-Math.round(past / 86400), "day");
  return new Intl.DateTimeFormat(now, { dateStyle: "medium" }).format(new Date(when));
}
