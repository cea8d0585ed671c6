// The server's routes.  A key is asked for when the server wants one, and is held in memory alone.

import { h } from "./dom.js";
import { ask } from "./dialog.js";
import { t } from "./i18n.js";

let key = null;
let asking = null;

/** Why there is no answer: `status` 0 means that the server could not be reached. */
export class ApiError extends Error {
  constructor(message, status = 0, code = null, param = null) {
    super(message);
    Object.assign(this, { status, code, param });
  }
}

/** JSON of a route. */
export async function get(path, { signal } = {}) {
  return (await answered(path, { signal })).json();
}

/** JSON of a route, for a body. */
export async function post(path, body, { signal } = {}) {
  return (await answered(path, posting(body, signal))).json();
}

/**
 * The JSON of each server-sent event of an answer, in turn, to "[DONE]" or the end.
 * An event that holds an `error` is thrown.
 */
export async function* stream(path, body, { signal } = {}) {
  const response = await answered(path, posting(body, signal));
  try {
    for await (const { data } of parsed(response.body)) {
      if (data === "[DONE]") return;
      const value = JSON.parse(data);
      if (value.error) throw new ApiError(value.error.message, 500, value.error.code);
      yield value;
    }
  } catch (error) {
    if (error instanceof ApiError || signal?.aborted) throw error;
  }
  throw new ApiError(t("error.away")); // it broke off before its end
}

/**
 * Follows server-sent events for good: reads on from where it was after a break (`Last-Event-ID`).
 * @param {string} path
 * @param {(value: any, id: string | null, name: string) => void} onEvent
 * @param {{onState?: (state: "open" | "away") => void}} [options]
 * @returns {() => void} ends it
 */
export function events(path, onEvent, { onState } = {}) {
  const control = new AbortController();
  follow(path, onEvent, onState ?? (() => {}), control.signal);
  return () => control.abort();
}

async function follow(path, onEvent, onState, signal) {
  let last = null;
  for (let wait = 500; !signal.aborted; wait = Math.min(2 * wait, 10_000)) {
    try {
      const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
      const response = await answered(path, { headers, signal });
      onState("open");
      for await (const event of parsed(response.body)) {
        last = event.id ?? last;
        wait = 500;
        onEvent(JSON.parse(event.data), event.id, event.name);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.status >= 400 && error.status < 500) throw error;
    }
    if (signal.aborted) return;
    onState("away");
    await new Promise((done) => setTimeout(done, wait));
  }
}

const posting = (body, signal) => ({
  method: "POST",
  body: JSON.stringify(body),
  signal,
  headers: { "Content-Type": "application/json" },
});

async function answered(path, options) {
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(t("error.away"));
  }
  if (response.ok) return response;
  if (response.status === 401) {
    await keyAsked();
    return answered(path, options);
  }
  const said = await response.json().then(
    (value) => value.error,
    () => null,
  );
  throw new ApiError(
    said?.message ?? `${response.status} ${response.statusText}`,
    response.status,
    said?.code,
    said?.param,
  );
}

/** One question for the key, however many requests want it. */
function keyAsked() {
  const refused = key && h("p", { class: "wrong-text", role: "alert", text: t("key.wrong") });
  asking ??= ask(t("key.title"), [refused, h("p", { text: t("key.why") })], {
    label: t("key.label"),
    type: "password",
  }).then((given) => {
    asking = null;
    if (!given) throw new ApiError(t("key.none"), 401);
    key = given;
  });
  return asking;
}

/** `{id, name, data}` of each event of a body. */
async function* parsed(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      left += value.replaceAll("\r", "");
      const parts = left.split("\n\n");
      left = parts.pop();
      for (const part of parts) {
        const event = eventOf(part);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function eventOf(part) {
  const event = { id: null, name: "message", data: null };
  for (const line of part.split("\n")) {
    const [, field, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
    if (field === "data") event.data = event.data === null ? value : `${event.data}\n${value}`;
    else if (field === "id") event.id = value;
    else if (field === "event") event.name = value;
  }
  return event.data === null ? null : event;
}
