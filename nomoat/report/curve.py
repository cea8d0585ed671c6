"""The course of a stage of reinforcement learning: what its step records say, over some of the steps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from nomoat.run.ledger import Event
from nomoat.stats import mean

Steps = Sequence[Event]


@dataclass(frozen=True)
class Row:
    """One thing that steps say: its label and form, where it is read, and what several steps make of it."""

    label: str
    form: str
    read: Callable[[Steps], list[float]]
    over: Callable[[list[float]], float] = mean

    def value(self, steps: Steps) -> float | None:
        """None where nothing is known."""
        values = self.read(steps)
        return self.over(values) if values else None

    def text(self, steps: Steps) -> str:
        value = self.value(steps)
        return "–" if value is None else self.form.format(value).replace("%", " %")


def tenths(curve: Steps) -> list[Steps]:
    """The first, the middle and the last tenth of the steps."""
    k = max(round(len(curve) / 10), 1)
    return [curve[i : i + k] for i in (0, (len(curve) - k) // 2, len(curve) - k)] if curve else [[], [], []]


def pieces(curve: Steps, n: int) -> list[Steps]:
    """At most `n` pieces of nearly the same length."""
    n = min(n, len(curve))
    return [curve[i * len(curve) // n : (i + 1) * len(curve) // n] for i in range(n)]


def field(key: str, steps: Steps) -> list[float]:
    """What was measured under a key."""
    return [e[key] for e in steps if isinstance(e.get(key), int | float)]


def by_name(key: Literal["rewards", "levels"], steps: Steps) -> dict[str, list[float]]:
    """The values of each family or level."""
    values = {}
    for e in steps:
        for name, value in (e.get(key) or {}).items():
            values.setdefault(name, []).extend([] if value is None else [value])
    return values


def families_alike(steps: Steps) -> list[float]:
    """The mean of each family; where families are not known, the reward of each step."""
    means = [mean(values) for values in by_name("rewards", steps).values() if values]
    return means or field("reward", steps)


def named(key: Literal["rewards", "levels"], name: str) -> Row:
    """The row of one family or level."""
    return Row(name, "{:.1%}", lambda steps: by_name(key, steps).get(name, []))


FIELDS = (  # key, label, form, and over what several steps are taken together
    ("reward", "right, as drawn", "{:.1%}"),
    ("lenient", "right in any form", "{:.1%}"),
    ("shadow", "right but doubted", "{:.2%}"),
    ("undecided", "undecided", "{:.0f}", math.fsum),
    ("dead_groups", "groups without a lesson", "{:.1%}"),
    ("common", "the most frequent answer", "{:.1%}"),
    ("common_right", "… and where it is right", "{:.1%}"),
    ("entropy", "entropy, nats a token", "{:.3f}"),
    ("kl", "KL to the start, nats", "{:.4f}"),
    ("drift", "largest drift", "{:.1e}", max),
    ("length", "tokens an answer", "{:.1f}"),
    ("length_right", "… of right ones", "{:.1f}"),
    ("length_wrong", "… of wrong ones", "{:.1f}"),
    ("truncated", "cut off", "{:.1%}"),
    ("sample_seconds", "sampling", "{:.2f} s"),
    ("update_seconds", "updating", "{:.2f} s"),
)
ROWS = {"alike": Row("right, families alike", "{:.1%}", families_alike)}
ROWS |= {key: Row(label, form, partial(field, key), *over) for key, label, form, *over in FIELDS}
