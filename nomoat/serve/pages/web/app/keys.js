// Keyboard shortcuts: one list, which the help sheet shows.

const LIST = [];
const APPLE = /Mac|iPhone|iPad/.test(navigator.platform);

/**
 * A shortcut: "?", "Escape", "Control+k", "Control+Shift+o".  One of a single character rests while a person
 * types. `handler` returns false if it had nothing to do: then the key does what it does elsewhere.
 */
export function shortcut(keys, label, handler) {
  LIST.push({ keys, label, handler });
}

/** `{keys, label}` of all, in the order of their making. */
export const shortcuts = () => LIST.filter(({ label }) => label);

/** The keys of a shortcut as they are printed on the keyboard. */
export function caps(keys) {
  const names = {
    Control: APPLE ? "⌘" : "Ctrl",
    Shift: "⇧",
    Escape: "Esc",
    ArrowUp: "↑",
    ArrowDown: "↓",
    Enter: "↵",
  };
  return keys.split("+").map((key) => names[key] ?? (key.length === 1 ? key.toUpperCase() : key));
}

export const typing = (target) =>
  target.matches?.("input:not([type=checkbox], [type=range]), textarea, select, [contenteditable]");

function pressed(event, keys) {
  const parts = keys.split("+");
  const key = parts.pop();
  const control = parts.includes("Control");
  if (control !== (APPLE ? event.metaKey : event.ctrlKey) || event.altKey) return false;
  if (key.length > 1 || control)
    return parts.includes("Shift") === event.shiftKey && event.key.toLowerCase() === key.toLowerCase();
  return event.key === key;
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing) return;
  for (const { keys, handler } of LIST) {
    if (!pressed(event, keys) || (keys.length === 1 && typing(event.target))) continue;
    if (document.querySelector("dialog[open]")) continue;
    if (handler(event) === false) continue;
    event.preventDefault();
    return;
  }
});
