"""The curves of a stage for a page: every field of its step records, thinned to what can be seen."""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

from nomoat.config import JsonObject
from nomoat.run.ledger import Event
from nomoat.stats import mean

POINTS = 1000
GROUPS = ("rewards", "levels")  # fields that hold a value of each family or level
HIDDEN = {"kind", "t", "stage", "step", "n_steps", "redone", "loads"}


def curves(steps: Sequence[Event], points: int = POINTS) -> JsonObject:
    """{"steps", "fields", "loads", "n"}: at most `points` means of neighbours of each field, None where none
    of them has a value; of a family or level under "rewards/NAME" and "levels/NAME".

    "loads": {"steps", "values"} of those steps whose records have them.
    """
    n = min(points, len(steps))
    pieces = [steps[i * len(steps) // n : (i + 1) * len(steps) // n] for i in range(n)]
    columns: dict[str, list[float | None]] = {}
    for i, piece in enumerate(pieces):
        for key, values in _gathered(piece).items():
            columns.setdefault(key, [None] * n)[i] = short(mean(values))
    loaded = [event for event in steps if event.get("loads")]
    return {
        "n": len(steps),
        "steps": [piece[-1]["step"] for piece in pieces],
        "fields": columns,
        "loads": {
            "steps": [event["step"] for event in loaded],
            "values": [event["loads"] for event in loaded],
        },
    }


def _gathered(piece: Iterable[Event]) -> dict[str, list[float]]:
    """The numbers in some records by their fields."""
    values: dict[str, list[float]] = {}
    for event in piece:
        for key, value in event.items():
            if key in GROUPS and isinstance(value, dict):
                for name, one in value.items():
                    _add(values, f"{key}/{name}", one)
            elif key not in HIDDEN:
                _add(values, key, value)
    return values


def _add(values: dict[str, list[float]], key: str, value: Any) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        values.setdefault(key, []).append(value)


def short(value: float | None) -> float | None:
    """Five significant digits: more can't be seen."""
    return None if value is None else float(f"{value:.5g}")
