// The sheet that takes conversations out of this page and into it.

import { notice, sheet } from "../app/dialog.js";
import { download, h } from "../app/dom.js";
import { t } from "../app/i18n.js";
import { icon } from "../app/icons.js";
import { asHtml, asJson, asMarkdown } from "./exported.js";
import { imported } from "./imported.js";
import { session } from "./session.js";
import { allChats, putChat } from "./store.js";

const MOST_BYTES = 64 << 20;

export function openTransfer() {
  const { chat } = session;
  const some = Object.keys(chat.nodes).length > 0;
  const name =
    (chat.title || "nomoat")
      .replace(/[^\p{L}\p{N}]+/gu, "-")
      .replace(/^-|-$/g, "")
      .slice(0, 40)
      .toLowerCase() || "chat";
  const one = (label, what, make) =>
    h(
      "button",
      { class: "way", disabled: !some, on: { click: make } },
      h("b", { text: label }),
      h("span", { class: "small muted", text: what }),
    );
  const input = h("input", {
    type: "file",
    accept: ".json,application/json",
    hidden: true,
    "aria-label": t("import"),
  });
  input.addEventListener("change", () => take(input.files[0], box));
  const box = sheet(t("export"), [
    h("h3", { text: t("export.this") }),
    h(
      "div",
      { class: "ways" },
      one("JSON", t("export.json"), () => download(`${name}.json`, asJson([chat]), "application/json")),
      one("Markdown", t("export.markdown"), () => download(`${name}.md`, asMarkdown(chat), "text/markdown")),
      one("HTML", t("export.html"), async () => download(`${name}.html`, await asHtml(chat), "text/html")),
    ),
    h("h3", { text: t("export.all") }),
    h(
      "div",
      { class: "row" },
      h(
        "button",
        {
          class: "button",
          on: {
            click: async () => download("nomoat-chats.json", asJson(await allChats()), "application/json"),
          },
        },
        icon("save", 18),
        t("export.all.do"),
      ),
      h("button", { class: "button", on: { click: () => input.click() } }, icon("upload", 18), t("import")),
      input,
    ),
  ]);
}

async function take(file, box) {
  if (!file) return;
  try {
    if (file.size > MOST_BYTES) throw new Error(t("import.large"));
    const chats = imported(await file.text());
    for (const chat of chats) await putChat(chat);
    box.close();
    session.tell("imported");
    await session.open(chats[0].id);
    notice(t("import.done", { n: chats.length }));
  } catch (error) {
    notice(t("import.failed", { why: error.message }), { kind: "wrong", ms: 9000 });
  }
}
