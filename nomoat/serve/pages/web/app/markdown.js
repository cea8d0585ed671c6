// Text of a model or a file -> nodes.  marked reads Markdown, DOMPurify lets through what is harmless, and
// what is neither link, picture of this page nor type stays text.  Mathematics is MathML (Temml, loaded when
// met).

import { Marked } from "../vendor/marked.js";
import DOMPurify from "../vendor/dompurify.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { t } from "./i18n.js";
import { escaped, mathematics, typeset } from "./mathematics.js";

const TAGS = [
  "p",
  "br",
  "hr",
  "h1",
  "h2",
  "h3",
  "h4",
  "h5",
  "h6",
  "strong",
  "em",
  "del",
  "code",
  "pre",
  "blockquote",
  "ul",
  "ol",
  "li",
  "table",
  "thead",
  "tbody",
  "tr",
  "th",
  "td",
  "a",
  "input",
  "span",
  "div",
  "sup",
  "sub",
];
const ATTRIBUTES = [
  "href",
  "title",
  "start",
  "type",
  "checked",
  "disabled",
  "class",
  "align",
  "data-tex",
  "data-display",
];
const RULES = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ATTRIBUTES,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:|#)/i,
  RETURN_DOM_FRAGMENT: true,
  ADD_URI_SAFE_ATTR: ATTRIBUTES.filter((name) => name !== "href"),
  SANITIZE_NAMED_PROPS: true,
};
const CLASSES = /^(language-[\w+#-]{1,30}|math)$/;

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => escaped(text), // what a model writes as HTML is shown as it wrote it
    // nothing is fetched: a picture is a link to it
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
  },
  extensions: [mathematics("block"), mathematics("inline")],
});

/**
 * The nodes of a text in Markdown, sanitised: no script, no handler, no style, no foreign picture, links that
 * open apart and send no referrer.  Code has a button that copies it; mathematics comes as soon as Temml is
 * there.
 * @param {string} text
 * @returns {DocumentFragment}
 */
export function markdown(text) {
  const fragment = DOMPurify.sanitize(marked.parse(text), RULES);
  for (const element of fragment.querySelectorAll("[class]")) {
    element.setAttribute("class", [...element.classList].filter((name) => CLASSES.test(name)).join(" "));
  }
  for (const link of fragment.querySelectorAll("a")) {
    link.setAttribute("target", "_blank");
    link.setAttribute("rel", "noopener noreferrer nofollow");
  }
  for (const box of fragment.querySelectorAll("input")) {
    if (box.type === "checkbox") box.disabled = true;
    else box.remove();
  }
  for (const table of fragment.querySelectorAll("table")) {
    const scroll = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("table") });
    table.replaceWith(scroll);
    scroll.append(table);
  }
  for (const code of fragment.querySelectorAll("pre > code")) code.parentElement.replaceWith(codeBlock(code));
  const formulas = [...fragment.querySelectorAll("[data-tex]")];
  if (formulas.length) typeset(formulas);
  return fragment;
}

function codeBlock(code) {
  const name = [...code.classList].find((each) => each.startsWith("language-"))?.slice(9) ?? "";
  const copy = h(
    "button",
    { class: "code-copy", type: "button", "aria-label": t("copy.code") },
    icon("copy", 16),
  );
  copy.addEventListener("click", () => copied(copy, code.textContent));
  const lines = h("pre", { tabindex: "0" }, h("code", { text: code.textContent.replace(/\n$/, "") }));
  return h(
    "div",
    { class: "code" },
    h("div", { class: "code-head" }, h("span", { text: name }), copy),
    lines,
  );
}

/** Copies a text, and says so on the button. */
export async function copied(button, text) {
  await navigator.clipboard.writeText(text);
  const before = [...button.childNodes];
  fill(button, icon("done", 16));
  setTimeout(() => fill(button, before), 1500);
}

/**
 * Cuts a text in Markdown into pieces that can be shown one by one: at empty lines, but not inside code,
 * formulas or lists.  All but the last stay as they are while the text grows.
 * @param {string} text
 * @returns {number[]} where each piece begins; the first is 0
 */
export function pieces(text, from = 0) {
  const starts = [from];
  let fence = null;
  let inMath = false;
  let inList = false;
  let empty = false;
  let at = from;
  for (const line of text.slice(from).split("\n")) {
    const mark = /^\s*(?:[-*+]|\d+[.)])?\s*(`{3,}|~{3,})/.exec(line)?.[1];
    const item = /^\s*(?:[-*+]|\d{1,9}[.)])\s/.test(line);
    const outside = !fence && !inMath;
    if (outside && empty && line.trim() && !(inList && (item || /^\s{2,}/.test(line)))) {
      starts.push(at);
      inList = false;
    }
    if (fence)
      fence =
        mark && mark[0] === fence[0] && mark.length >= fence.length && !line.trim().slice(mark.length).trim()
          ? null
          : fence;
    else if (mark) fence = mark;
    else if (/^\s*(\$\$|\\\[)/.test(line) && !/(\$\$|\\\])\s*$/.test(line.trim().slice(2))) inMath = !inMath;
    else if (inMath && /(\$\$|\\\])\s*$/.test(line)) inMath = false;
    if (outside && item) inList = true;
    empty = !line.trim();
    at += line.length + 1;
  }
  return starts;
}
