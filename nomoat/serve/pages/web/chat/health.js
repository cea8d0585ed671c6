// Whether the server is there: said while it is not, and when it is back.

import { get } from "../app/api.js";
import { notice } from "../app/dialog.js";
import { fill, h } from "../app/dom.js";
import { t } from "../app/i18n.js";
import { icon } from "../app/icons.js";
import { session } from "./session.js";

const FIRST_MS = 1000;
const LAST_MS = 8000;

/** The line that says it; `back` is called when the server answers again. */
export function healthLine(back) {
  const line = h("div", { class: "health", role: "alert", hidden: true });
  let waiting = false;
  const show = (text) => {
    if (line.hidden || line.dataset.said !== text) fill(line, icon("away", 18), h("span", { text }));
    line.dataset.said = text;
    line.hidden = false;
    document.body.classList.add("away");
  };
  const watch = async () => {
    if (waiting) return;
    waiting = true;
    for (let wait = FIRST_MS; ; wait = Math.min(LAST_MS, 1.5 * wait)) {
      try {
        await get("/health");
        break;
      } catch (error) {
        show(t(error.status === 503 ? "error.model.failed" : "error.away.line"));
      }
      await new Promise((done) => setTimeout(done, wait));
    }
    waiting = false;
    if (line.hidden) return;
    line.hidden = true;
    document.body.classList.remove("away");
    notice(t("server.back"));
    await back();
    session.retry();
  };
  session.addEventListener("away", watch);
  addEventListener("offline", watch);
  addEventListener("online", watch);
  return { line, watch };
}
