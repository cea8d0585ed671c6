// Sheets over the page, and short notices.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { t } from "./i18n.js";

/**
 * Opens a modal sheet; Esc, the cross and a click beside it close it.
 * @param {string} title
 * @param {any[]} children
 * @param {{wide?: boolean, onClose?: () => void}} [options]
 * @returns {HTMLDialogElement}
 */
export function sheet(title, children, { wide = false, onClose } = {}) {
  const name = `sheet-${Math.random().toString(36).slice(2)}`;
  const cross = h(
    "button",
    { class: "icon-button", "aria-label": t("close"), on: { click: () => box.close() } },
    icon("cross"),
  );
  const head = h("header", { class: "sheet-head" }, h("h2", { id: name, text: title }), cross);
  const box = h(
    "dialog",
    { class: wide ? "sheet wide" : "sheet", "aria-labelledby": name },
    head,
    h("div", { class: "sheet-body" }, children),
  );
  box.addEventListener("click", (event) => event.target === box && box.close());
  box.addEventListener("close", () => {
    box.remove();
    onClose?.();
  });
  document.body.append(box);
  box.showModal();
  return box;
}

/** Asks for one line of text; null if the person turns it down. */
export function ask(title, why, { label, type = "text", value = "", action = t("ok") }) {
  return new Promise((done) => {
    let given = null;
    const input = h("input", { type, value, autocomplete: "off", spellcheck: "false", "aria-label": label });
    const submit = (event) => {
      event.preventDefault();
      given = input.value.trim();
      box.close();
    };
    const buttons = h(
      "div",
      { class: "sheet-actions" },
      h("button", { class: "button primary", type: "submit", text: action }),
    );
    const box = sheet(title, [h("form", { class: "stack", on: { submit } }, why, input, buttons)], {
      onClose: () => done(given),
    });
    input.focus();
    input.select();
  });
}

/** Asks before something is lost. */
export function confirmed(title, why, action) {
  return new Promise((done) => {
    let yes = false;
    const go = () => {
      yes = true;
      box.close();
    };
    const box = sheet(
      title,
      [
        h("p", { text: why }),
        h(
          "div",
          { class: "sheet-actions" },
          h("button", { class: "button", text: t("cancel"), on: { click: () => box.close() } }),
          h("button", { class: "button danger", text: action, on: { click: go } }),
        ),
      ],
      { onClose: () => done(yes) },
    );
  });
}

let notices = null;

/** A short notice at the foot of the page; it goes by itself. */
export function notice(text, { kind = "plain", action = null, ms = 5000 } = {}) {
  if (!notices?.isConnected) {
    notices = h("div", { class: "notices", role: "status" });
    document.body.append(notices);
  }
  const gone = () => box.remove();
  const more =
    action &&
    h("button", {
      class: "link",
      text: action.label,
      on: {
        click: () => {
          gone();
          action.go();
        },
      },
    });
  const box = h("div", { class: `notice ${kind}` }, h("span", { text }), more);
  notices.append(box);
  setTimeout(gone, ms);
  return gone;
}
