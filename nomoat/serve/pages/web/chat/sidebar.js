// The conversations before this one.

import { confirmed, notice } from "../app/dialog.js";
import { fill, h } from "../app/dom.js";
import { icon } from "../app/icons.js";
import { language, t } from "../app/i18n.js";
import { keep, kept } from "../app/kept.js";
import { openSearch } from "./search.js";
import { session } from "./session.js";
import { allChats } from "./store.js";
import { openTransfer } from "./transfer.js";

const NARROW = matchMedia("(max-width: 60rem)");

export class Sidebar {
  #list = h("nav", { class: "chats", "aria-label": t("chats") });
  #open = !NARROW.matches && kept("sidebar", true);

  constructor() {
    const plain = (name, drawing, go, caps) =>
      h(
        "button",
        { class: "side-button", title: caps, on: { click: go } },
        icon(drawing, 18),
        h("span", { text: t(name) }),
      );
    this.element = h(
      "aside",
      { class: "sidebar", id: "sidebar", "aria-label": t("chats") },
      h(
        "div",
        { class: "side-head" },
        plain("new.chat", "plus", () => this.#leave(() => session.open())),
        plain("search.chats", "search", () => this.#leave(() => openSearch())),
      ),
      this.#list,
      h(
        "div",
        { class: "side-foot" },
        plain("export", "save", () => this.#leave(openTransfer)),
      ),
    );
    this.veil = h("div", { class: "veil", on: { click: () => this.toggle(false) } });
    this.button = h(
      "button",
      {
        class: "icon-button",
        "aria-label": t("chats.show"),
        "aria-controls": "sidebar",
        title: t("chats.show"),
        on: { click: () => this.toggle() },
      },
      icon("panel"),
    );
    NARROW.addEventListener("change", () => this.toggle(!NARROW.matches && kept("sidebar", true)));
    for (const name of ["open", "saved", "imported", "idle"])
      session.addEventListener(name, () => this.draw());
    this.toggle(this.#open);
    this.draw();
  }

  toggle(open = !this.#open) {
    this.#open = open;
    if (!NARROW.matches) keep("sidebar", open);
    document.body.classList.toggle("with-sidebar", open);
    this.button.setAttribute("aria-expanded", String(open));
    this.element.inert = !open;
  }

  /** On a phone the list goes out of the way. */
  #leave(go) {
    if (NARROW.matches) this.toggle(false);
    go();
  }

  async draw() {
    const all = await allChats().catch(() => []);
    const parts = [];
    let day = null;
    for (const chat of all) {
      const name = dayOf(chat.updated);
      if (name !== day) parts.push(h("h2", { class: "day", text: name }));
      day = name;
      parts.push(this.#row(chat));
    }
    const scroll = this.#list.scrollTop;
    fill(this.#list, parts.length ? parts : h("p", { class: "small muted none", text: t("chats.none") }));
    this.#list.scrollTop = scroll;
  }

  #row(chat) {
    const now = chat.id === session.chat.id;
    return h(
      "div",
      { class: "chat-row" },
      h("button", {
        class: "chat-link",
        "aria-current": now ? "true" : null,
        text: chat.title || t("chat.untitled"),
        title: chat.title,
        on: { click: () => this.#leave(() => session.open(chat.id)) },
      }),
      session.answers(chat.id) &&
        h("span", { class: "at-work", role: "img", "aria-label": t("chat.answers") }),
      h(
        "button",
        {
          class: "action",
          "aria-label": t("chat.remove", { title: chat.title }),
          title: t("remove"),
          on: { click: () => this.#remove(chat) },
        },
        icon("remove", 16),
      ),
    );
  }

  async #remove(chat) {
    if (!(await confirmed(t("chat.remove.title"), t("chat.remove.why", { title: chat.title }), t("remove"))))
      return;
    await session.discard(chat.id);
    if (chat.id === session.chat.id) await session.open();
    this.draw();
    notice(t("chat.removed"));
  }
}

function dayOf(when) {
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(when).setHours(0, 0, 0, 0)) / 864e5);
  if (days < 2) return new Intl.RelativeTimeFormat(language(), { numeric: "auto" }).format(-days, "day");
  if (days < 8) return t("days.week");
  return new Intl.DateTimeFormat(language(), { month: "long", year: "numeric" }).format(new Date(when));
}
