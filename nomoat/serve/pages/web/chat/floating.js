// One small window beside something on the page; Esc or a click elsewhere closes it.

import { append, h } from "../app/dom.js";

const GAP = 6;
let open = null;

/**
 * Shows children beside `anchor`, below it or above where there is no room; on a narrow page at its foot.
 * @param {HTMLElement} anchor
 * @param {any[]} children
 * @param {{focus?: boolean, onClose?: () => void, className?: string}} [options]
 */
export function floating(anchor, children, { focus = true, onClose, className = "" } = {}) {
  close();
  const box = h("div", { class: `floating ${className}`, role: "dialog" });
  append(box, children);
  document.body.append(box);
  open = { box, anchor, onClose };
  placed(box, anchor);
  if (focus) box.querySelector("button:not(:disabled), select, input, a")?.focus();
  return box;
}

/** Closes the window, if one is open. */
export function close() {
  if (!open) return false;
  const { box, anchor, onClose } = open;
  open = null;
  const hadFocus = box.contains(document.activeElement);
  box.remove();
  if (hadFocus && anchor.isConnected) anchor.focus({ preventScroll: true });
  onClose?.();
  return true;
}

function placed(box, anchor) {
  if (innerWidth < 560) return box.classList.add("at-foot");
  const place = anchor.getClientRects()[0] ?? anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = box;
  const below = place.bottom + GAP + height < innerHeight || place.top < height + GAP;
  const top = below ? place.bottom + GAP : place.top - height - GAP;
  box.style.setProperty("inset-block-start", `${Math.max(GAP, Math.min(top, innerHeight - height - GAP))}px`);
  box.style.setProperty(
    "inset-inline-start",
    `${Math.max(GAP, Math.min(place.left, innerWidth - width - GAP))}px`,
  );
  return undefined;
}

document.addEventListener("pointerdown", (event) => {
  if (open && !open.box.contains(event.target) && !open.anchor.contains(event.target)) close();
});
document.addEventListener(
  "keydown",
  (event) => {
    if (event.key === "Escape" && close()) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  },
  true,
);
document.addEventListener("click", (event) => {
  if (open?.box.contains(event.target) && event.target.closest("button")) close();
});
addEventListener(
  "scroll",
  (event) => {
    if (!open || open.box.contains(event.target)) return;
    const { top, bottom } = open.anchor.getBoundingClientRect();
    if (bottom < 0 || top > innerHeight) close();
    else placed(open.box, open.anchor);
  },
  true,
);
addEventListener("resize", () => close());
