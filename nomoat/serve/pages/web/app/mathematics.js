// Formulas in Markdown: $…$ and \(…\) in a line, $$…$$ and \[…\] by themselves.

import { fill, h } from "./dom.js";

const LONGEST = 4000;
const INLINE = [/^\$(?![\s$])((?:\\.|[^\\$\n])+?)(?<!\s)\$(?!\d)/, /^\\\(((?:\\.|[^\\\n])+?)\\\)/];
const BLOCK = [/^\$\$\s*((?:\\.|[^\\$])+?)\s*\$\$(?:\n|$)/, /^\\\[\s*([\s\S]+?)\s*\\\](?:\n|$)/];

/** Text as HTML that says the same. */
export const escaped = (text) => text.replace(/[&<>"']/g, (each) => `&#${each.charCodeAt(0)};`);

/** The extension of marked for one of both; a formula becomes an element with its source in `data-tex`. */
export function mathematics(level) {
  const block = level === "block";
  const rules = block ? BLOCK : INLINE;
  return {
    name: `${level}-math`,
    level,
    start: (text) => text.match(block ? /^(\$\$|\\\[)/m : /\$|\\\(/)?.index,
    tokenizer(text) {
      for (const rule of rules) {
        const found = rule.exec(text.slice(0, LONGEST));
        if (found) return { type: `${level}-math`, raw: found[0], tex: found[1] };
      }
      return undefined;
    },
    renderer({ tex }) {
      const safe = escaped(tex);
      return block
        ? `<div class="math" data-display="1" data-tex="${safe}">${safe}</div>`
        : `<span class="math" data-tex="${safe}">${safe}</span>`;
    },
  };
}

let temml = null;

/** Puts MathML into elements that hold a formula; where Temml can't read one, its source stays. */
export async function typeset(boxes) {
  try {
    if (!temml) document.head.append(h("link", { rel: "stylesheet", href: "/assets/vendor/temml.css" }));
    temml ??= (await import("../vendor/temml.js")).default;
  } catch {
    return; // it can't be loaded: the sources are there to be read
  }
  for (const box of boxes) {
    const math = mathOf(box.dataset.tex, box.hasAttribute("data-display"));
    if (!math) continue;
    math.setAttribute("aria-label", box.dataset.tex);
    fill(box, math);
  }
}

function mathOf(tex, displayMode) {
  try {
    const tree = temml.__renderToMathMLTree(tex, {
      displayMode,
      throwOnError: true,
      trust: false,
      maxExpand: 200,
      maxSize: [20, 20],
    });
    styled(tree);
    const math = tree.toNode();
    for (const link of math.querySelectorAll("a, [href], [src]")) link.remove();
    return math;
  } catch {
    return null;
  }
}

/** Styles as the page's policy allows them: by the CSSOM, not as an attribute. */
function styled(node) {
  const { style, ...others } = node.attributes ?? {};
  if (style) {
    for (const each of style.split(";").filter(Boolean)) {
      const [name, value] = each.split(":").map((part) => part.trim());
      node.style[name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase())] = value;
    }
    node.attributes = others;
  }
  for (const child of node.children ?? []) styled(child);
}
