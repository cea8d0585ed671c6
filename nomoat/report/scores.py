"""What was measured of each model, pooled over levels."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nomoat import stats
from nomoat.report.table import Table
from nomoat.run.ledger import Event
from nomoat.run.ledger import money as money
from nomoat.run.log import last_scores


@dataclass(frozen=True)
class Score:
    """A share of right answers over one family, all levels together, with its 95 % interval and number of problems."""

    value: float
    low: float
    high: float
    lenient: float
    n: int


@dataclass(frozen=True)
class Scores:
    """What the evaluation measured: accuracy[how][model][family] with "mean" beside the families, bits[model][lang]."""

    models: tuple[str, ...]
    families: tuple[str, ...]
    accuracy: Mapping[str, Mapping[str, Mapping[str, Score]]]
    bits: Mapping[str, Mapping[str, float]]


def scores_of(events: Iterable[Event]) -> Scores:
    """The last measurement of each thing.  Greedy levels are pooled by Wilson; sampled ones, whose problems are not in
    the log, by the root of the summed squares of their weighted half-widths.
    """
    bits: dict[str, dict[str, float]] = {}
    cells: dict[str, dict[str, dict[str, list[Event]]]] = {"greedy": {}, "sampled": {}}
    for e in last_scores(e for e in events if e.get("model") is not None and e.get("value") is not None):
        model, family = e["model"], e.get("family")
        what, _, detail = e["name"].partition("/")
        if what == "bpb":
            bits.setdefault(model, {})[detail] = e["value"]
        elif what == "accuracy" and detail in cells:
            cells[detail].setdefault(model, {}).setdefault(family, []).append(e)
    families = tuple(dict.fromkeys(f for by_model in cells["sampled"].values() for f in by_model))
    scores = lambda by_family, how: _with_mean({family: _pool(levels, how) for family, levels in by_family.items()})
    accuracy = {how: {model: scores(found, how) for model, found in by_model.items()} for how, by_model in cells.items()}
    return Scores(tuple(cells["sampled"]), families, accuracy, bits)


def _pool(levels: Sequence[Event], how: str) -> Score:
    n = sum(e["n"] for e in levels)
    mean = lambda key: sum(e["n"] * (e.get(key) or 0.0) for e in levels) / n
    value = mean("value")
    if how == "greedy":
        low, high = stats.wilson(round(value * n), n)
    else:
        half = lambda key: math.sqrt(sum((e["n"] * (e[key] - e["value"])) ** 2 for e in levels)) / n
        low, high = max(0.0, value - half("low")), min(1.0, value + half("high"))
    return Score(value, low, high, mean("lenient"), n)


def _with_mean(families: dict[str, Score]) -> dict[str, Score]:
    k = len(families)
    mean = sum(s.value for s in families.values()) / k
    low, high = (math.sqrt(sum((getattr(s, end) - s.value) ** 2 for s in families.values())) / k for end in ("low", "high"))
    lenient, n = sum(s.lenient for s in families.values()) / k, sum(s.n for s in families.values())
    return {**families, "mean": Score(mean, max(0.0, mean - low), min(1.0, mean + high), lenient, n)}


def score_tables(found: Scores) -> list[Table]:
    """Accuracy by family and model, greedy and sampled, and bits per byte beside the n-gram models."""
    cell = lambda s: f"{100 * s.value:.0f} [{100 * s.low:.0f}-{100 * s.high:.0f}]" if s else ""
    tables = []
    for how, title in (("greedy", "Greedy accuracy, %"), ("sampled", "Sampled accuracy, %")):
        by_model = found.accuracy.get(how, {})
        if not by_model:
            continue
        rows = tuple(
            (family, *(cell(scores.get(family)) for scores in by_model.values())) for family in (*found.families, "mean")
        )
        means = {model: scores["mean"] for model, scores in by_model.items()}
        lenient = ", ".join(f"{model} {100 * mean.lenient:.0f}" for model, mean in means.items())
        n = next(iter(means.values())).n
        note = {"greedy": f"95 % intervals in brackets; strict format; {n} problems that no stage trained on.",
                "sampled": f"At temperature 1. In a lenient reading the means are {lenient}."}[how]  # fmt: skip
        tables.append(Table(title, ("family", *by_model), rows, note, total=True))
    if found.bits:
        langs = tuple(dict.fromkeys(lang for by_lang in found.bits.values() for lang in by_lang))
        rows = tuple((m, *(f"{b[lang]:.3f}" if lang in b else "" for lang in langs)) for m, b in found.bits.items())
        tables.append(Table("Bits per byte of held-out prose", ("model", *langs), rows, "Lower is better."))
    return tables
