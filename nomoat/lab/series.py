"""A comparison over seeds in a folder: what it holds is not trained again; intervals of what the seeds
give."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nomoat.config import ConfigError, JsonObject
from nomoat.files import write_whole
from nomoat.run.energy import Energy
from nomoat.stats import grouped

# 97.5 % quantiles from 1 degree of freedom
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)

Json = JsonObject  # a table of TOML, or what is kept as JSON
Row = Json  # what Trial.result() gives
Runs = Sequence[Row]


def quiet(says: str, share: float) -> None:
    """Tells nobody how far a series is."""


@dataclass(frozen=True)
class Series:
    """What every comparison is asked: where it is kept, `seconds` of device time, how often, and on which
    text."""

    out: Path
    seconds: float
    n_seeds: int
    text: str | None = None
    tell: Callable[[str, float], None] = quiet

    def __post_init__(self):
        if self.n_seeds < 1 or not self.seconds > 0:
            raise ConfigError(
                f"{self.n_seeds} seeds of {self.seconds} s; expected at least one seed and a time above zero"
            )

    def setting(self, steps: Callable[[], Any], **more: Any) -> Json:
        """What makes it this comparison, and how far each arm goes; `steps` measures that once."""
        asked = {"seconds": self.seconds, "text": self.text, **more, "units": torch.get_num_threads()}
        asked = json.loads(json.dumps(asked))
        setting = kept(self.out / "setting.json", lambda: {**asked, "steps": steps()})
        if {key: setting.get(key) for key in asked} != asked:
            raise ConfigError(
                f"{self.out} holds another comparison (arms, budget, threads or text); "
                "choose another --out, or remove it"
            )
        return setting

    def results(self, train: Callable[[int], list[Row]]) -> list[Row]:
        """Of all seeds; `train` gives those of one."""
        results = []
        for seed in range(self.n_seeds):
            results += kept(self.out / f"seed-{seed}.json", partial(train, seed))
        return results


def meter() -> Energy:
    return Energy("cpu", units=torch.get_num_threads())


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """The JSON at `path`, made where it is not there yet: a comparison that was stopped goes on."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(make(), indent=1))
    return json.loads(path.read_text("utf-8"))


def by_arm(results: Runs) -> dict[str, list[Row]]:
    return grouped((row["arm"], row) for row in results)


def student(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean, None for one value."""
    if len(values) < 2:
        return None
    quantile = STUDENT[min(len(values) - 2, len(STUDENT) - 1)]
    half, middle = quantile * statistics.stdev(values) / len(values) ** 0.5, statistics.mean(values)
    return middle - half, middle + half


def merged(*tables: Json) -> Json:
    """The tables laid over each other, nested ones key by key, but whole where the kind is another."""
    out = {}
    for table in tables:
        for key, value in table.items():
            before = out.get(key)
            both = isinstance(value, Mapping) and isinstance(before, Mapping)
            same_kind = both and value.get("kind", before.get("kind")) == before.get("kind")
            out[key] = merged(before, value) if same_kind else value
    return out
