"""What was measured of each model, pooled over levels."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nomoat import stats
from nomoat.report.table import Table
from nomoat.run.ledger import Event
from nomoat.run.log import last_scores


@dataclass(frozen=True)
class Accuracy:
    """A share of right answers over one family, all levels together, with its 95 % interval and number of problems."""

    value: float
    low: float
    high: float
    lenient: float
    n: int

    def __str__(self) -> str:
        return f"{100 * self.value:.0f} [{100 * self.low:.0f}-{100 * self.high:.0f}]"


@dataclass(frozen=True)
class Scores:
    """What the evaluation measured: accuracy[how][model][family] with "mean" beside the families, bits[model][lang]."""

    models: tuple[str, ...]
    families: tuple[str, ...]
    accuracy: Mapping[str, Mapping[str, Mapping[str, Accuracy]]]
    bits: Mapping[str, Mapping[str, float]]


def scores_of(events: Iterable[Event]) -> Scores:
    """The last measurement of each thing.  Greedy levels are pooled by Wilson; sampled ones, whose problems are not in
    the log, by the root of the summed squares of their weighted half-widths.
    """
    bits: dict[str, dict[str, float]] = {}
    levels: dict[str, dict[str, dict[str, list[Event]]]] = {"greedy": {}, "sampled": {}}
    for e in last_scores(events):
        model, (what, _, detail) = e.get("model"), e["name"].partition("/")
        if model is None or e.get("value") is None:
            continue
        if what == "bpb":
            bits.setdefault(model, {})[detail] = e["value"]
        elif what == "accuracy" and detail in levels:
            levels[detail].setdefault(model, {}).setdefault(e.get("family"), []).append(e)
    accuracy = {
        how: {model: _pooled(by_family, how) for model, by_family in by_model.items()}
        for how, by_model in levels.items()
    }
    families = dict.fromkeys(family for by_family in levels["sampled"].values() for family in by_family)
    return Scores(tuple(levels["sampled"]), tuple(families), accuracy, bits)


def _pooled(by_family: Mapping[str, Sequence[Event]], how: str) -> dict[str, Accuracy]:
    pool = _greedy if how == "greedy" else _sampled
    families = {family: pool(levels) for family, levels in by_family.items()}
    return {**families, "mean": _mean(list(families.values()))}


def _greedy(levels: Sequence[Event]) -> Accuracy:
    n = sum(e["n"] for e in levels)
    value = _weighted(levels, "value")
    return Accuracy(value, *stats.wilson(round(value * n), n), _weighted(levels, "lenient"), n)


def _sampled(levels: Sequence[Event]) -> Accuracy:
    n = sum(e["n"] for e in levels)
    value = _weighted(levels, "value")
    low, high = (
        math.sqrt(sum((e["n"] * (e[end] - e["value"])) ** 2 for e in levels)) / n for end in ("low", "high")
    )
    return Accuracy(value, max(0.0, value - low), min(1.0, value + high), _weighted(levels, "lenient"), n)


def _weighted(levels: Sequence[Event], key: str) -> float:
    """The mean over problems."""
    return sum(e["n"] * (e.get(key) or 0.0) for e in levels) / sum(e["n"] for e in levels)


def _mean(families: Sequence[Accuracy]) -> Accuracy:
    k = len(families)
    value = sum(f.value for f in families) / k
    low = math.sqrt(sum((f.low - f.value) ** 2 for f in families)) / k
    high = math.sqrt(sum((f.high - f.value) ** 2 for f in families)) / k
    lenient = sum(f.lenient for f in families) / k
    return Accuracy(value, max(0.0, value - low), min(1.0, value + high), lenient, sum(f.n for f in families))


def score_tables(scores: Scores) -> list[Table]:
    """Accuracy by family and model, greedy and sampled, and bits per byte beside the n-gram models."""
    tables = []
    if greedy := scores.accuracy.get("greedy"):
        n = next(iter(greedy.values()))["mean"].n
        note = f"95 % intervals in brackets; strict format; {n} problems that no stage trained on."
        tables.append(_accuracy_table("Greedy accuracy, %", greedy, scores.families, note))
    if sampled := scores.accuracy.get("sampled"):
        means = ", ".join(f"{model} {100 * found['mean'].lenient:.0f}" for model, found in sampled.items())
        note = f"At temperature 1. In a lenient reading the means are {means}."
        tables.append(_accuracy_table("Sampled accuracy, %", sampled, scores.families, note))
    if scores.bits:
        langs = tuple(dict.fromkeys(lang for by_lang in scores.bits.values() for lang in by_lang))
        rows = tuple(
            (model, *(f"{bits[lang]:.3f}" if lang in bits else "" for lang in langs))
            for model, bits in scores.bits.items()
        )
        title = "Bits per byte of held-out prose"
        tables.append(Table(title, ("model", *langs), rows, "Lower is better."))
    return tables


def _accuracy_table(
    title: str, by_model: Mapping[str, Mapping[str, Accuracy]], families: Sequence[str], note: str
) -> Table:
    rows = tuple(
        (family, *(str(found.get(family, "")) for found in by_model.values()))
        for family in (*families, "mean")
    )
    return Table(title, ("family", *by_model), rows, note, total=True)
