// The chat page, put together.

import { $, h } from "../app/dom.js";
import { notice } from "../app/dialog.js";
import { load, t } from "../app/i18n.js";
import { icon } from "../app/icons.js";
import { shortcut } from "../app/keys.js";
import { shell } from "../app/shell.js";
import { otherTheme } from "../app/theme.js";
import { scriptURL } from "../app/trusted.js";
import { Composer } from "./composer.js";
import { healthLine } from "./health.js";
import { readModels } from "./models.js";
import { openSearch } from "./search.js";
import { session } from "./session.js";
import { openSettings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { openTransfer } from "./transfer.js";
import { View } from "./view.js";

async function start() {
  await load("chat");
  document.title = t("title");
  const sidebar = new Sidebar();
  const view = new View();
  const composer = new Composer();
  const { line, watch } = healthLine(refresh);
  const fresh = h(
    "button",
    {
      class: "icon-button",
      "aria-label": t("new.chat.short"),
      title: t("new.chat"),
      on: { click: () => session.open() },
    },
    icon("plus"),
  );
  const main = h(
    "main",
    { id: "main", tabindex: "-1" },
    line,
    view.element,
    h("div", { class: "dock" }, view.foot, composer.element),
  );
  document.body.classList.remove("loading");
  document.body.replaceChildren(
    shell("chat", { before: [sidebar.button], after: [fresh] }),
    sidebar.element,
    sidebar.veil,
    main,
  );
  keys({ composer, sidebar, view });
  await session.reopen();
  await begin(watch);
  if (matchMedia("(pointer: fine)").matches) composer.focus();
  navigator.serviceWorker?.register(scriptURL("/sw.js")).catch(() => {});
  session.addEventListener("open", () => matchMedia("(pointer: fine)").matches && composer.focus());
  session.addEventListener("problems", composer.openProblems);
}

/** Asks what the server has; without it the page waits, without a key it offers to take one. */
async function begin(watch) {
  try {
    await refresh();
  } catch (error) {
    if (error.status === 0) watch();
    else {
      const action = { label: t("again"), go: () => begin(watch) };
      notice(error.message, { kind: "wrong", action, ms: error.status === 401 ? 10 ** 9 : 9000 });
    }
  }
}

async function refresh() {
  try {
    await readModels();
  } finally {
    document.dispatchEvent(new CustomEvent("modelschange"));
  }
}

function keys({ composer, sidebar, view }) {
  shortcut("Enter", t("key.send"), () => false);
  shortcut("Shift+Enter", t("key.line"), () => false);
  shortcut("Escape", t("key.stop"), () => (session.busy ? session.stop() : false));
  shortcut("ArrowUp", t("key.edit"), (event) =>
    event.target.matches?.(".message") && !composer.text && view.editLast() ? undefined : false,
  );
  shortcut("/", t("key.focus"), () => composer.focus());
  shortcut("Control+k", t("search.chats"), openSearch);
  shortcut("Control+Shift+o", t("new.chat"), () => session.open());
  shortcut("Control+b", t("chats.show"), () => sidebar.toggle());
  shortcut("Control+Shift+p", t("check.hint"), composer.openProblems);
  shortcut("Control+Shift+e", t("export"), openTransfer);
  shortcut("Control+,", t("settings"), openSettings);
  shortcut("Control+Shift+l", t("theme"), otherTheme);
}

start().catch((error) => {
  console.error(error);
  $("#failed")?.removeAttribute("hidden");
});
