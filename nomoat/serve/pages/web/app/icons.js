// Drawings of 20 by 20, in the colour of the text around them.

import { svg } from "./dom.js";

const PATHS = {
  send: "M10 16.5V4M4.8 9.2 10 4l5.2 5.2",
  stop: "M6 6h8v8H6z",
  again: "M15.8 10a5.8 5.8 0 1 1-1.7-4.1L16 7.8M16 4v3.8h-3.8",
  on: "M5 4.5v11l6-5.5zM14.5 4.5v11",
  edit: "M12.6 4.4l3 3L7 16H4v-3zM10.8 6.2l3 3",
  copy: "M7.5 7.5h8v8h-8zM12.5 7.5v-3h-8v8h3",
  done: "M4.5 10.5l3.8 3.8 7.2-8",
  cross: "M5 5l10 10M15 5 5 15",
  left: "M12 5l-5 5 5 5",
  right: "M8 5l5 5-5 5",
  down: "M5 8l5 5 5-5",
  plus: "M10 4.5v11M4.5 10h11",
  search: "M8.8 14.2a5.4 5.4 0 1 0 0-10.8 5.4 5.4 0 0 0 0 10.8zM12.8 12.8l3.8 3.8",
  menu: "M3.5 6h13M3.5 10h13M3.5 14h13",
  panel: "M3.5 4.5h13v11h-13zM8 4.5v11",
  settings:
    "M3.5 6.5h7M14.5 6.5h2M3.5 13.5h2M9.5 13.5h7M12.5 8.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM7.5 15.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4z",
  sun: "M10 13.2a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4zM10 2.5v1.6M10 15.9v1.6M2.5 10h1.6M15.9 10h1.6M4.7 4.7l1.1 1.1M14.2 14.2l1.1 1.1M15.3 4.7l-1.1 1.1M5.8 14.2l-1.1 1.1",
  moon: "M16 11.8A6.5 6.5 0 0 1 8.2 4a6.5 6.5 0 1 0 7.8 7.8z",
  language:
    "M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM3.2 10h13.6M10 3c2.2 2 3 4.4 3 7s-.8 5-3 7c-2.2-2-3-4.4-3-7s.8-5 3-7z",
  help: "M7.6 7.6a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.2.9-1.2 1.8M10 14.4v.1M10 17.2a7.2 7.2 0 1 0 0-14.4 7.2 7.2 0 0 0 0 14.4z",
  columns: "M3.5 4.5h5v11h-5zM11.5 4.5h5v11h-5z",
  check: "M4 5.5l1.6 1.6L8.4 4M4 13l1.6 1.6 2.8-3.1M11 6h5.5M11 13.5h5.5",
  tokens: "M3.5 6h4v3h-4zM9.5 6h7v3h-7zM3.5 11.5h7v3h-7zM12.5 11.5h4v3h-4z",
  more: "M5 10h.01M10 10h.01M15 10h.01",
  save: "M10 3.5v9M6.2 9 10 12.8 13.8 9M4 16.5h12",
  upload: "M10 13V4M6.2 7.6 10 3.8l3.8 3.8M4 16.5h12",
  remove: "M4.5 6h11M8 6V4.2h4V6M6 6l.7 10h6.6L14 6M8.7 9v4.5M11.3 9v4.5",
  away: "M3.5 3.5l13 13M6.6 8.9A7.6 7.6 0 0 1 10 8c1 0 2 .2 2.9.6M4 6.2a11 11 0 0 1 2.4-1.3M10 5c2.3 0 4.4.8 6 2.2M10 14.6v.1",
  dice: "M4 4h12v12H4zM7.3 7.3v.01M12.7 7.3v.01M10 10v.01M7.3 12.7v.01M12.7 12.7v.01",
  branch: "M6 16.5v-13M6 12c5.5 0 8-1.8 8-7M11.2 6.6 14 3.8l2.8 2.8",
};

/** A drawing by its name; it says nothing to a screen reader. */
export function icon(name, size = 20) {
  return svg(
    "svg",
    {
      class: `icon icon-${name}`,
      viewBox: "0 0 20 20",
      width: size,
      height: size,
      "aria-hidden": "true",
      focusable: "false",
    },
    svg("path", { d: PATHS[name] ?? "" }),
  );
}
