"""What this machine does, as a probe measured it: seconds for a FLOP of each kind of work, stage by stage.

Kinds of work, as stages plan them: `trained` (steps on documents), `learned` (updates on what a policy
wrote), `sampled` (tokens drawn), `scored` (forward passes over text), in FLOPs; `host` (data, judging,
files), in seconds of the machine that stages/estimate.toml was measured on.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import NamedTuple

from nomoat.config import JsonObject
from nomoat.files import shipped
from nomoat.run.log import Event

KINDS = ("trained", "learned", "sampled", "scored", "host")
ONE_OF = 1.645  # standard deviations on each side: nine of ten


class Span(NamedTuple):
    """An amount, and between what it lies in nine cases of ten."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rate:
    """Median, lowest and highest of the rounds of a probe, in seconds for one unit of a kind of work."""

    seconds: float
    low: float
    high: float

    @classmethod
    def of(cls, rounds: Sequence[float], amount: float) -> "Rate":
        return cls(median(rounds) / amount, min(rounds) / amount, max(rounds) / amount)

    @property
    def spread(self) -> float:
        """Half of what lies between the lowest and the highest, as a share of the median."""
        return (self.high - self.low) / (2 * self.seconds)


@dataclass(frozen=True)
class Rates:
    """Of the kinds of work of each stage that were measured; `bytes` that a stage holds at most, beside
    `base_bytes` of the process.  The probe took `took` seconds, and had `busy` processors of them.
    """

    threads: int
    device: str
    base_bytes: float
    took: float
    busy: float
    stages: Mapping[str, Mapping[str, Rate]] = field(default_factory=dict)
    bytes: Mapping[str, float] = field(default_factory=dict)

    def of(self, stage: str, kind: str) -> Rate | None:
        """The rate of a kind of work in a stage, or as measured for another one; of the host the same in all.
        """
        every = [self.stages.get(stage, {}), *self.stages.values()]
        return next((rates[kind] for rates in every if kind in rates), None)

    def holds(self, stage: str, *others: float) -> float:
        """Bytes that the process holds at most in a stage, which also takes `others` at other times."""
        return self.base_bytes + max(self.bytes.get(stage, 0.0), *others)

    @property
    def taken(self) -> float:
        """The share of its processors that the probe did not have."""
        return max(1 - self.busy / self.threads, 0.0)

    def event(self) -> JsonObject:
        """The fields of its "rates" event."""
        return asdict(self)


def read(event: Event) -> Rates:
    """The rates in an event of a log."""
    fields = {key: event[key] for key in ("threads", "device", "base_bytes", "took", "busy", "bytes")}
    stages = {
        stage: {kind: Rate(**rate) for kind, rate in kinds.items()}
        for stage, kinds in event["stages"].items()
    }
    return Rates(stages=stages, **fields)


def measured(events: Iterable[Event]) -> Rates | None:
    """The last rates of a log, by which its run is planned; None for a run of no probe."""
    every = [event for event in events if event["kind"] == "rates"]
    return read(every[-1]) if every else None


def error(kind: str, spread: float = 0.0, taken: float = 0.0) -> float:
    """The standard deviation that a forecast of a kind of work has, as a share: what plans of that kind have
    missed by (rates.toml), the spread of the probe that it rests on, and the share of the processors that
    others had `taken` meanwhile, which they may give back."""
    errors = shipped(__file__)["error"]
    return math.hypot(errors[kind], spread, errors["taken"] * taken)


def total(parts: Iterable[tuple[str, float, float]]) -> Span:
    """The sum of (kind, seconds, standard deviation as a share): parts of one kind err together, kinds apart.
    """
    seconds, errors = 0.0, dict.fromkeys(KINDS, 0.0)
    for kind, amount, share in parts:
        seconds += amount
        errors[kind] += amount * share
    far = ONE_OF * math.hypot(*errors.values())
    share = far / seconds if seconds else 0.0
    return Span(seconds, seconds / (1 + share), seconds * (1 + share))
