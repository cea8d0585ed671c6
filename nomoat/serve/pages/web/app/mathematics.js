// Formulas in Markdown: $…$ and \(…\) in a line, $$…$$ and \[…\] by themselves.

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
      return block ? `<div class="math" data-display="1" data-tex="${safe}">${safe}</div>`
        : `<span class="math" data-tex="${safe}">${safe}</span>`;
    },
  };
}
