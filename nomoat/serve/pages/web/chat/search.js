// Finds a conversation by what was said in it.

import { sheet } from "../app/dialog.js";
import { fill, h, throttled } from "../app/dom.js";
import { ago, t } from "../app/i18n.js";
import { session } from "./session.js";
import { allChats } from "./store.js";
import { texts } from "./tree.js";

const MOST = 30;
const AROUND = 60; // characters before and after what was found

export function openSearch() {
  const list = h("ol", { class: "found", "aria-live": "polite" });
  const input = h("input", {
    type: "search",
    "aria-label": t("search.chats"),
    placeholder: t("search.hint"),
    autocomplete: "off",
  });
  const all = allChats().catch(() => []);
  const box = sheet(t("search.chats"), [input, list], { wide: true });
  const go = (chat) => {
    box.close();
    session.open(chat.id);
  };
  const draw = async () => {
    const words = input.value.trim().toLowerCase();
    const hits = (await all)
      .map((chat) => found(chat, words))
      .filter(Boolean)
      .slice(0, MOST);
    fill(
      list,
      hits.length
        ? hits.map((hit) => row(hit, go))
        : h("li", { class: "muted", text: t(words ? "search.nothing" : "chats.none") }),
    );
  };
  input.addEventListener("input", throttled(draw, 120));
  box.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const buttons = [...list.querySelectorAll("button")];
    if (event.key === "Escape") box.close(); // a search field would only empty itself
    else if (event.key === "Enter" && event.target === input) buttons[0]?.click();
    else if (by) (buttons[buttons.indexOf(document.activeElement) + by] ?? input).focus();
    else return;
    event.preventDefault();
  });
  draw();
  input.focus();
}

function found(chat, words) {
  if (!words) return { chat, before: "", hit: "", after: "" };
  for (const text of texts(chat)) {
    const at = text.toLowerCase().indexOf(words);
    if (at < 0) continue;
    const end = at + words.length;
    return {
      chat,
      before: text.slice(Math.max(0, at - AROUND), at),
      hit: text.slice(at, end),
      after: text.slice(end, end + AROUND),
    };
  }
  return null;
}

const row = ({ chat, before, hit, after }, go) =>
  h(
    "li",
    null,
    h(
      "button",
      { class: "hit", on: { click: () => go(chat) } },
      h(
        "span",
        { class: "hit-head" },
        h("b", { text: chat.title || t("chat.untitled") }),
        h("span", { class: "small muted", text: ago(chat.updated) }),
      ),
      hit && h("span", { class: "small hit-text" }, before, h("mark", { text: hit }), after),
    ),
  );
