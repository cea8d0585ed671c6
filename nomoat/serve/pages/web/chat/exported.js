// A conversation as JSON, as Markdown, and as one HTML file that needs nothing else.

import { h } from "../app/dom.js";
import { language, t } from "../app/i18n.js";
import { markdown } from "../app/markdown.js";
import { escaped } from "../app/mathematics.js";
import { labelOf } from "./models.js";
import { turns } from "./tree.js";

/** All branches of conversations, as `imported` reads them. */
export const asJson = (chats) =>
  JSON.stringify({ format: "nomoat-chats", version: 1, exported: new Date().toISOString(), chats }, null, 1);

/** What is seen of a conversation. */
export function asMarkdown(chat) {
  const parts = [`# ${chat.title}`];
  for (const { asked, lanes } of turns(chat)) {
    parts.push(`## ${t("you")}`, asked.text);
    for (const { reply } of lanes) {
      if (!reply) continue;
      parts.push(`## ${reply.model}`);
      if (reply.thinking)
        parts.push(`<details><summary>${t("thinking.word")}</summary>\n\n${reply.thinking}\n\n</details>`);
      parts.push(reply.text);
    }
  }
  return `${parts.join("\n\n")}\n`;
}

/** As it is seen, in one file without any script. */
export async function asHtml(chat) {
  const main = h(
    "main",
    null,
    h("h1", { text: chat.title }),
    turns(chat).map(({ asked, lanes }) => [
      h(
        "section",
        { class: "asked" },
        h("h2", { text: t("you") }),
        h("p", { class: "plain", text: asked.text }),
      ),
      h(
        "div",
        { class: "lanes" },
        lanes
          .filter(({ reply }) => reply)
          .map(({ reply }) =>
            h(
              "section",
              { class: "reply" },
              h("h2", { text: labelOf(reply.model) }),
              reply.thinking &&
                h(
                  "details",
                  null,
                  h("summary", { text: t("thinking.word") }),
                  h("p", { class: "plain", text: reply.thinking }),
                ),
              markdown(reply.text),
            ),
          ),
      ),
    ]),
  );
  for (let n = 0; n < 50 && main.querySelector(".math:not(:has(math))"); n += 1)
    await new Promise((done) => setTimeout(done, 20));
  for (const button of main.querySelectorAll("button")) button.remove();
  const style = await (await fetch("/assets/chat/exported.css")).text();
  const policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
  return `<!doctype html>
<html lang="${language()}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(chat.title)}</title>
<style>
${style}</style>
</head>
<body>
${main.outerHTML}
</body>
</html>
`;
}
