// Where the lab's figures come from, and the news of a run while it is trained.

import { throttled } from "../app/dom.js";
import { events, get } from "../app/api.js";

const MOST_POINTS = 3000; // of a curve that grows here, before it is asked for again, thinned
const RECENT = 20; // steps that tell the pace
const TELLING = [
  "stage_start",
  "stage_end",
  "score",
  "sample",
  "probe",
  "note",
  "plan",
  "continue",
  "resume",
  "reset",
  "state",
];
const path = (...parts) => `/api/${parts.map(encodeURIComponent).join("/")}`;

export const runs = () => get("/api/runs");
export const run = (name) => get(path("runs", name));
export const compared = (a, b) => get(`/api/compare?${new URLSearchParams({ a, b })}`);

/** A run that is looked at: its snapshot, its curves as they grow, and who wants to know. */
export class Watched {
  /** @param {string} name @param {{onSnapshot: (snapshot: any) => void, onStep: (stage: any) => void, onState: (state: string) => void}} to */
  constructor(name, to) {
    this.name = name;
    this.to = to;
    this.curves = new Map();
    this.snapshot = null;
    this.recent = [];
    this.asked = throttled(() => this.ask(), 1500);
    this.seldom = throttled(() => this.ask(), 12_000);
  }

  /** Reads the snapshot, and follows the log from there. */
  async open() {
    this.snapshot = await run(this.name);
    const after = this.snapshot.line;
    this.close = events(
      `${path("runs", this.name, "events")}?after=${after}`,
      (value, id, name) => this.hear(value, name),
      { onState: (state) => this.to.onState(state) },
    );
    return this.snapshot;
  }

  close() {}

  async ask() {
    try {
      this.snapshot = await run(this.name);
    } catch {
      return; // it is told by onState that the server is away
    }
    this.to.onSnapshot(this.snapshot);
  }

  /** The curve of a stage; the same object grows with the run. */
  curve(stage) {
    if (!this.curves.has(stage)) {
      this.curves.set(
        stage,
        get(path("runs", this.name, "curve", stage)).catch((error) => {
          this.curves.delete(stage);
          throw error;
        }),
      );
    }
    return this.curves.get(stage);
  }

  async renewed(stage) {
    const old = await this.curve(stage);
    const curve = await get(path("runs", this.name, "curve", stage));
    Object.assign(old, curve);
    return old;
  }

  hear(event, name) {
    if (name === "state" && event.running === (this.snapshot.state === "running")) return;
    if (name === "reset") this.curves.clear();
    if (name !== "message" || TELLING.includes(event.kind)) this.asked();
    if (event.kind === "resume") this.again(event.stage);
    if (event.kind === "step") this.step(event);
  }

  again(stage) {
    if (this.curves.has(stage))
      this.renewed(stage).then(
        () => this.tell(stage),
        () => {},
      );
  }

  step(event) {
    const stage = this.snapshot.stages.find(({ name }) => name === event.stage);
    if (!stage) return this.asked();
    this.recent = stage.name === this.recentStage ? this.recent : [];
    this.recentStage = stage.name;
    this.recent.push(event.seconds ?? 0);
    if (this.recent.length > RECENT) this.recent.shift();
    const pace = this.recent.reduce((sum, value) => sum + value, 0) / this.recent.length;
    Object.assign(stage, {
      step: event.step,
      steps: event.n_steps,
      seconds: stage.seconds + (event.seconds ?? 0),
      eta_seconds: Math.max(event.n_steps - event.step, 0) * pace,
    });
    this.curves.get(stage.name)?.then(
      (curve) => this.grow(curve, event),
      () => {},
    );
    this.seldom();
    return this.tell(stage.name);
  }

  grow(curve, event) {
    const last = curve.steps.at(-1) ?? 0;
    if (event.step <= last) return;
    if (curve.steps.length >= MOST_POINTS) this.again(event.stage);
    curve.steps.push(event.step);
    const fields = { ...event, ...under("rewards", event.rewards), ...under("levels", event.levels) };
    for (const [key, value] of Object.entries(fields)) {
      if (typeof value === "number" && !(key in curve.fields))
        curve.fields[key] = Array(curve.steps.length - 1).fill(null);
    }
    for (const [key, values] of Object.entries(curve.fields))
      values.push(typeof fields[key] === "number" ? fields[key] : null);
    if (event.loads) {
      curve.loads.steps.push(event.step);
      curve.loads.values.push(event.loads);
    }
  }

  tell(stage) {
    this.to.onStep(this.snapshot.stages.find(({ name }) => name === stage));
  }

  rollouts(stage, query) {
    const asked = Object.entries({ stage, ...query }).filter(
      ([, value]) => value !== "" && value !== undefined,
    );
    return get(`${path("runs", this.name, "rollouts")}?${new URLSearchParams(asked)}`);
  }

  async families(stage) {
    const { fields } = await this.curve(stage);
    return Object.keys(fields)
      .filter((key) => key.startsWith("rewards/"))
      .map((key) => key.slice(8))
      .sort();
  }
}

const under = (name, values) =>
  Object.fromEntries(Object.entries(values ?? {}).map(([key, value]) => [`${name}/${key}`, value]));
