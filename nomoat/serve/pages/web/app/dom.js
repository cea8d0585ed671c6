// Nodes from calls; text is always text, nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element.  `props`: `class`, `text`, `dataset`, `style` (an object, set by the CSSOM), `on` (event ->
 * handler), `ref` (called with the element); everything else is an attribute, `true` an empty one, `false`
 * and null none.
 * @param {string} tag
 * @param {Record<string, any> | null} [props]
 * @param {...any} children nodes, texts, lists of these; null and false are passed over
 * @returns {HTMLElement}
 */
export function h(tag, props, ...children) {
  return filled(document.createElement(tag), props, children);
}

/** An element of SVG; as `h`. */
export function svg(tag, props, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) set(element, name, value);
  append(element, children);
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "text") element.textContent = value;
  else if (name === "ref") value(element);
  else if (name === "dataset") Object.assign(element.dataset, value);
  else if (name === "style")
    for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
  else if (name === "on")
    for (const [key, each] of Object.entries(value)) element.addEventListener(key, each);
  else if (name === "value" || name === "checked") element[name] = value;
  else if (/^on|^srcdoc$/i.test(name)) throw new TypeError(`${name}: handlers are given by \`on\``);
  else element.setAttribute(name, value === true ? "" : value);
}

/** Adds nodes, texts and lists of these. */
export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Puts children in the place of what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

export const $ = (selector, root = document) => root.querySelector(selector);

/** Calls `work` at most once a frame; the last arguments win. */
export function eachFrame(work) {
  let last = null;
  return (...given) => {
    if (last === null) {
      requestAnimationFrame(() => {
        const now = last;
        last = null;
        work(...now);
      });
    }
    last = given;
  };
}

/** Calls `work` at most once in so many milliseconds, the last time included. */
export function throttled(work, ms) {
  let timer = 0;
  let last = -Infinity;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(
      () => {
        last = performance.now();
        work(...given);
      },
      Math.max(0, last + ms - performance.now()),
    );
  };
}

/** Saves text or a blob as a file on the person's machine. */
export function download(name, content, type = "text/plain") {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
