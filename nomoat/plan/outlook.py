"""What is left of a run while it goes: its forecast, corrected by how long its work has taken so far.

What a stage has done of a kind of work, beside what was planned for that, is its pace; before it has one, the
pace of that kind in the stages before it.  A pace counts as much as was planned for what it was seen in, the
forecast as much as TRUST says.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

from nomoat.config import JsonObject
from nomoat.plan.budget import Line, estimate, looked
from nomoat.plan.machine import machine_of_run
from nomoat.plan.rates import KINDS, Span, total
from nomoat.run.directory import Run
from nomoat.run.ledger import Event, duration
from nomoat.stages.recipe import Recipe, StageConfig

TRUST = 0.05  # a forecast weighs as much as this share of it that was seen
PLANNED = (
    "stage", "tokens", "flops", "memory_bytes", "seconds", "low_seconds", "high_seconds", "joules", "money",
)  # fmt: skip
HOST, SAMPLED, SCORED = "host", "problems for", "bits per byte"


@dataclass
class Progress:
    """One kind of work of one stage: planned, of which `share` is done and took `seconds`."""

    kind: str
    planned: float
    error: float
    share: float = 0.0
    seconds: float = 0.0

    @property
    def seen(self) -> float:
        return self.planned * self.share

    def left(self, pace: float) -> tuple[str, float, float]:
        """(kind, seconds, their standard deviation as a share), at its own pace and as far as it has none at
        that of its kind; the more it was seen, the less it errs."""
        trust = TRUST * self.planned
        own = (trust * pace + self.seconds) / (trust + self.seen)
        error = self.error * sqrt(trust / (trust + self.seen))
        return self.kind, own * self.planned * (1 - self.share), error


class Outlook:
    """Hears the events of a run; `left()` tells the seconds that are left of all its stages in `only`."""

    def __init__(self, recipe: Recipe, run: Run, only: Sequence[str] = ()) -> None:
        self.recipe = recipe
        lines = estimate(recipe, only, machine_of_run(recipe, run))
        self.stages = {line.stage: progress_of(line) for line in lines}
        self.over: set[str] = set()
        self.most: float | None = None  # seconds that are left by the limit of the run itself, a taught one's
        for event in run.events():
            self.hear(event)

    def hear(self, event: Event) -> None:
        """Takes a record of the log in."""
        stage, kind = event.get("stage"), event["kind"]
        if kind == "look":
            self.most = event["train_seconds"] + event.get("measure_seconds", 0.0)
        if self.most is not None and kind in ("step", "work"):
            self.most -= event.get("seconds") or 0.0
        if stage not in self.stages:
            return
        if kind == "stage_start":
            self.over.discard(stage)
            for progress in self.stages[stage].values():
                progress.share = progress.seconds = 0.0
        elif kind == "stage_end":
            self.over.add(stage)
            for progress in self.stages[stage].values():
                progress.share = 1.0
        elif kind in ("step", "work") and not event.get("redone"):
            self._count(event, self.stages[stage], self.recipe.stage(stage))

    def _count(self, event: Event, parts: dict[str, Progress], config: StageConfig) -> None:
        """What a record took, and how far its kind of work is now."""
        for kind, seconds in split(event):
            progress = parts.setdefault(kind, Progress(kind, 0.0, 0.0))
            progress.seconds += seconds
            if event["kind"] == "step":
                progress.share = share_of(event["step"], event["n_steps"], kind, config)
            elif kind == HOST:
                progress.share = min(1.0, progress.seconds / max(progress.planned, 1e-9))
            else:
                progress.share = min(1.0, progress.share + 1 / n_records(config, self.recipe))

    def left(self) -> Span:
        """Seconds, and between what they lie in nine cases of ten."""
        paces = {kind: self.pace(kind) for kind in KINDS}
        parts = []
        for stage, kinds in self.stages.items():
            if stage not in self.over:
                parts += [p.left(paces[p.kind]) for p in kinds.values() if p.planned]
        left = total(parts)
        if self.most is None:
            return left
        return Span(*(min(n, max(self.most, 0.0)) for n in (left.value, left.low, left.high)))

    def pace(self, kind: str) -> float:
        """What a kind of work took in all stages, as a multiple of what was planned for it."""
        every = [kinds[kind] for kinds in self.stages.values() if kind in kinds]
        trust = TRUST * sum(p.planned for p in every)
        took, seen = sum(p.seconds for p in every), sum(p.seen for p in every)
        return (trust + took) / (trust + seen) if trust else 1.0

    def seconds(self) -> float:
        """The most probable number of seconds that are left."""
        return self.left().value

    def says(self) -> str:
        """In a few words."""
        left = self.left()
        low, high = duration(left.low), duration(left.high)
        return f"{duration(left.value)} left of all" + (f" ({low} to {high})" if low != high else "")


def planned(recipe: Recipe, run: Run) -> list[JsonObject]:
    """What each stage is to take, for the log: it is kept from before anything was known."""
    lines, known = estimate(recipe, machine=machine_of_run(recipe, run)), looked(run)
    found = [{key: getattr(line, key) for key in PLANNED} for line in lines]
    for line in found:
        if line["stage"] in known:
            line |= dict.fromkeys(("seconds", "low_seconds", "high_seconds"), known[line["stage"]])
    return found


def progress_of(line: Line) -> dict[str, Progress]:
    return {part.kind: Progress(part.kind, part.seconds, part.error) for part in line.parts}


def n_records(config: StageConfig, recipe: Recipe) -> int:
    """How many records of each kind an evaluation, or a stage of rejection sampling, makes."""
    if config.kind == "reject":
        return max(config.problems // 256, 1)
    named = getattr(config, "models", None) or [s.name for s in recipe.stages if s.leaves_weights]
    return len(named)


def split(event: Event) -> Iterable[tuple[str, float]]:
    """(kind of work, seconds of it) in a record."""
    seconds = event.get("seconds") or 0.0
    if event["kind"] == "step":
        if (sampling := event.get("sample_seconds")) is None:
            return [("trained", seconds)]
        return [("sampled", sampling), ("learned", max(seconds - sampling, 0.0))]
    what = event.get("what") or ""
    if what.startswith((SAMPLED, "sample answers")):
        return [("sampled", seconds)]
    return [("scored" if what.startswith(SCORED) else HOST, seconds)]


def share_of(step: int, n_steps: int, kind: str, config: StageConfig) -> float:
    """How far a kind of work is with a step: the last `policy_steps` of a distillation sample and learn."""
    n_policy = min(getattr(config, "policy_steps", 0), n_steps)
    n_read = n_steps - n_policy
    if kind == "trained" and n_read:
        return min(step / n_read, 1.0)
    return max(step - n_read, 0) / n_policy if n_policy else step / n_steps
