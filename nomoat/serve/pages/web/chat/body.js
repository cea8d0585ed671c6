// The text of a reply, in pieces: a piece that is whole is never drawn again, and one that nobody has seen
// yet is plain text until it comes near.

import { fill, h } from "../app/dom.js";
import { markdown, pieces } from "../app/markdown.js";

const AT_ONCE = 24; // pieces of a finished text that are drawn without waiting to be near
const near = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      target.draw?.();
    }
  },
  { rootMargin: "1200px 0px" },
);

export class Body {
  element = h("div", { class: "prose" });
  #text = "";
  #begin = 0; // where the last piece begins
  #last = null;
  #timer = 0;
  #done = false;
  #cost = 0; // milliseconds that the last drawing took

  /** Shows a text; one that begins as the last one did is only added to. */
  show(text, { done = true } = {}) {
    if (!text.startsWith(this.#text)) this.#clear();
    const grown = text !== this.#text;
    this.#text = text;
    if (done && (grown || !this.#done)) this.#draw(true);
    else if (!done && grown && !this.#timer) {
      this.#timer = setTimeout(
        () => requestAnimationFrame(() => this.#draw(false)),
        Math.min(500, 4 * this.#cost),
      );
    }
    this.#done = done;
  }

  #clear() {
    clearTimeout(this.#timer);
    this.element.replaceChildren();
    this.#text = "";
    this.#begin = 0;
    this.#last = null;
    this.#timer = 0;
  }

  #draw(done) {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const began = performance.now();
    const starts = pieces(this.#text, this.#begin);
    starts.forEach((start, n) => {
      const piece = this.#text.slice(start, starts[n + 1] ?? this.#text.length);
      this.#put(piece, done && starts.length > AT_ONCE && n >= AT_ONCE);
      if (n < starts.length - 1) this.#last = null;
    });
    this.#begin = starts.at(-1);
    this.#cost = performance.now() - began;
  }

  #put(text, later) {
    if (!this.#last) {
      if (!text.trim()) return;
      this.#last = h("div", { class: "piece" });
      this.element.append(this.#last);
    }
    const box = this.#last;
    if (later) {
      box.textContent = text;
      box.draw = () => fill(box, markdown(text));
      near.observe(box);
    } else fill(box, markdown(text));
  }
}
