"""How far a run and each of its stages are, and what is left, from the event log alone."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nomoat.config import JsonObject
from nomoat.run.directory import Run
from nomoat.run.ledger import Event
from nomoat.run.lock import holder, is_here
from nomoat.run.log import is_blank, last_plan
from nomoat.stats import mean

State = Literal["new", "running", "stopped", "finished"]
RECENT = 20  # steps that tell the pace
SILENT_SECONDS = 120.0  # after which a process of another host is taken for gone


@dataclass
class Stage:
    """A stage of the recipe; `seconds` are those of its steps and its other work, done again or not."""

    name: str
    kind: str
    state: Literal["waiting", "running", "stopped", "finished"] = "waiting"
    step: int = 0
    steps: int | None = None
    seconds: float = 0.0
    eta_seconds: float | None = None
    planned_seconds: float | None = None
    started: float | None = None
    ended: float | None = None
    bought: str = ""
    parameters: int | None = None
    active: int | None = None


@dataclass(frozen=True)
class Course:
    """A run: its state, its stages in the order of the recipe, the seconds that are left of all."""

    state: State
    owner: str | None
    stages: Sequence[Stage]
    started: float | None
    updated: float | None
    eta_seconds: float | None

    @property
    def at(self) -> Stage | None:
        """The stage that is worked on, or would be next; None where nothing is left."""
        begun = [stage for stage in self.stages if stage.state in ("running", "stopped")]
        return next(iter(begun or [stage for stage in self.stages if stage.state == "waiting"]), None)


def course_of(run: Run) -> Course:
    """How far a run is, finished, at work or dead."""
    events = run.events()
    owner = at_work(run.root, events)
    stages = {name_of(stage): Stage(name_of(stage), stage["kind"]) for stage in run.recipe.get("stages", [])}
    for line in last_plan(events):
        if line["stage"] in stages:
            stages[line["stage"]].planned_seconds = line["seconds"]
    recent: dict[str, list[float]] = {}
    for event in events:
        if (stage := stages.get(event.get("stage"))) is not None:
            _hear(stage, event, recent.setdefault(stage.name, []))
    begun = [stage for stage in stages.values() if stage.state == "running"]
    for stage in begun if owner is None else begun[:-1]:
        stage.state = "stopped"
    _estimate(list(stages.values()), recent, events[-1]["t"] if events else None)
    left = [stage.eta_seconds for stage in stages.values() if stage.state != "finished"]
    return Course(
        state=_state(owner, events, list(stages.values())),
        owner=owner,
        stages=list(stages.values()),
        started=events[0]["t"] if events else None,
        updated=events[-1]["t"] if events else None,
        eta_seconds=None if None in left else sum(left),
    )


def name_of(stage: Mapping[str, str]) -> str:
    return stage.get("name") or stage["kind"]


def at_work(root: Path, events: Sequence[Event]) -> str | None:
    """Who trains in a directory, as far as that can be seen."""
    owner = holder(root / "lock")
    if owner is None or is_here(owner):
        return owner
    return owner if events and time.time() - events[-1]["t"] < SILENT_SECONDS else None


def _hear(stage: Stage, event: Event, recent: list[float]) -> None:
    kind = event["kind"]
    if kind == "stage_start":
        stage.state, stage.ended = "running", None
        stage.started = stage.started or event["t"]
    elif kind == "stage_end":
        outputs = event.get("outputs") or {}
        stage.state, stage.ended, stage.bought = "finished", event["t"], str(outputs.get("bought", ""))
        stage.parameters, stage.active = outputs.get("parameters"), outputs.get("active")
    elif kind == "resume":
        stage.step = event["step"]
    elif kind == "step":
        stage.step, stage.steps = event["step"], event.get("n_steps")
        recent.append(event.get("seconds") or 0.0)
        del recent[:-RECENT]
    if kind in ("step", "work"):
        stage.seconds += event.get("seconds") or 0.0


def _estimate(stages: Sequence[Stage], recent: Mapping[str, list[float]], now: float | None) -> None:
    """What is left of each: a stage with steps at its own pace, others by the plan at the pace of the run."""
    took = planned = 0.0
    for stage in stages:
        if stage.planned_seconds and stage.state == "finished":
            took += stage.seconds
            planned += stage.planned_seconds
    pace = took / planned if planned else 1.0
    for stage in stages:
        if stage.state != "finished":
            stage.eta_seconds = _left(stage, recent.get(stage.name), pace, now)


def _left(stage: Stage, recent: list[float] | None, pace: float, now: float | None) -> float | None:
    if stage.steps and recent:
        return max(stage.steps - stage.step, 0) * mean(recent)
    if stage.planned_seconds is None:
        return None
    spent = 0.0
    if stage.state == "running" and stage.started:
        spent = now - stage.started
    return max(pace * stage.planned_seconds - spent, 0.0)


def _state(owner: str | None, events: Sequence[Event], stages: Sequence[Stage]) -> State:
    if owner is not None:
        return "running"
    if stages and all(stage.state == "finished" for stage in stages):
        return "finished"
    return "new" if is_blank(events) else "stopped"


def as_json(course: Course) -> JsonObject:
    """The state of a run, for pages; times as the log has them, seconds since 1970."""
    return {
        "state": course.state,
        "owner": course.owner,
        "started": course.started,
        "updated": course.updated,
        "eta_seconds": course.eta_seconds,
        "stages": [vars(stage) for stage in course.stages],
    }
