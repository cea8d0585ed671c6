"""What follows from the answers of two models to the same problems: differences, what carried, pass@k, the price."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from nomoat import stats
from nomoat.config import DataError
from nomoat.evals.rings import EVERYONE
from nomoat.evals.transfer import mean

CARRIED = ("R1", "R2", "R3", "R4")
Result = dict[str, Any]
Pair = tuple[float | None, float | None]


@dataclass(frozen=True)
class Difference:
    """A mean of after - before with its 95 % interval; None where nothing was measured."""

    delta: float | None
    low: float | None
    high: float | None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.delta is not None and (self.low > 0 or self.high < 0)


def difference(seeds: Sequence[Sequence[Pair]]) -> Difference:
    """The difference over pairs (before, after), each pair one problem, of each training seed."""
    gaps = [[b - a for a, b in pairs if a is not None and b is not None] for pairs in seeds]
    gaps = [gap for gap in gaps if gap]
    if not gaps:
        return Difference(None, None, None)
    delta = sum(sum(gap) / len(gap) for gap in gaps) / len(gaps)
    draws = stats.resampled([[(x,) for x in gap] for gap in gaps])
    low, high = stats.percentiles([drawn for (drawn,) in draws])
    if low == high:  # all alike: resampling would say that nothing is uncertain
        half = stats.wilson(0, sum(map(len, gaps)))[1]
        low, high = max(-1.0, delta - half), min(1.0, delta + half)
    return Difference(delta, low, high)


def carried(far: Sequence[Mapping[str, float]], near: Sequence[Mapping[str, float]]) -> list[float] | None:
    """[gain far / gain near, low, high] of gains by cluster; a problem that is in both, reworded, is drawn in both."""
    if not all(far) or not all(near) or all(len(set(gains.values())) == 1 for gains in far):
        return None  # nothing there, or all alike: no interval to be had
    same = [
        {c: n[c] for c in f} if set(f) <= set(n) else n for f, n in zip(far, near)
    ]  # rewordings: like with like
    gain = lambda seeds: mean([mean(list(gains.values())) for gains in seeds])
    clusters = [sorted({*f, *n}) for f, n in zip(far, same)]
    rows = [[(f.get(c), n.get(c)) for c in listed] for f, n, listed in zip(far, same, clusters)]
    ratios = [f / n for f, n in stats.resampled(rows) if n]
    if not gain(same) or not ratios:
        return None
    return [gain(far) / gain(same), *stats.percentiles(ratios)]


def calibration(pairs: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
    """(expected calibration error over 15 equally wide bins, Brier score) of pairs (chance, truth)."""
    if not pairs:
        return None, None
    bins: dict[int, list[float]] = {}
    for chance, truth in pairs:
        bins.setdefault(min(int(chance * 15), 14), []).append(chance - truth)
    error = sum(abs(sum(gaps)) for gaps in bins.values()) / len(pairs)
    return error, sum((chance - truth) ** 2 for chance, truth in pairs) / len(pairs)


class Measured:
    """The results of one or more training seeds over one suite."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = results
        self.items: list[Result] = results[0]["items"]
        self.before: str = results[0]["config"]["before"]
        self.after: str = results[0]["config"]["after"]
        self.trained = self.places("R0")

    @cached_property
    def headline(self) -> Difference:
        """What became of the trained tasks."""
        return self.difference(self.trained)

    def places(self, ring: str) -> list[int]:
        return [i for i, item in enumerate(self.items) if item["ring"] == ring]

    def values(self, model: str, places: Sequence[int], key: str) -> list[list[float | None]]:
        """Of each seed, what was kept under a key for some problems; None where nothing was."""
        answers = [result["models"][model]["answers"] for result in self.results]
        return [[(seed[i] or {}).get(key) for i in places] for seed in answers]

    def mean(self, model: str, places: Sequence[int], key: str = "rate") -> float | None:
        return mean([value for seed in self.values(model, places, key) for value in seed])

    def both(self, places: Sequence[int], key: str = "rate") -> list[float | None]:
        """[before, after]"""
        return [self.mean(model, places, key) for model in (self.before, self.after)]

    def pairs(self, places: Sequence[int], key: str = "rate", model: str | None = None) -> list[list[Pair]]:
        """Of each seed, (before, after) or (before, `model`) for some problems."""
        before, after = (self.values(m, places, key) for m in (self.before, model or self.after))
        return [list(zip(b, a)) for b, a in zip(before, after)]

    def difference(self, places: Sequence[int], key: str = "rate", model: str | None = None) -> Difference:
        return difference(self.pairs(places, key, model))

    def gains(self, places: Sequence[int]) -> list[dict[str, float]]:
        """Of each seed, the difference by cluster."""
        clusters = [self.items[i]["cluster"] for i in places]
        return [
            {
                cluster: after - before
                for cluster, (before, after) in zip(clusters, seed)
                if None not in (before, after)
            }
            for seed in self.pairs(places)
        ]

    def of_models(self, model: str) -> list[Result]:
        return [result["models"][model] for result in self.results]


def combine(results: Sequence[Result]) -> Result:
    """Several training seeds in one: seeds are resampled first, then problems; `seeds` keeps what each says alone."""
    suites = {result["suite"] for result in results}
    if len(suites) != 1:
        raise DataError(
            f"{len(results)} results of {len(suites)} suites; expected one suite: "
            "measure every run with the same settings and the same recipe"
        )
    first = {key: results[0][key] for key in ("config", "suite", "commit", "samples", "notes", "guessed")}
    seeds = [{"seed": result["seed"], **summary([result])} for result in results]
    return {**first, "seeds": seeds, **summary(results)}


def summary(results: Sequence[Result]) -> Result:
    """Everything that the tables and the sentence say (report/transfer.py)."""
    measured = Measured(results)
    keys = ("rate", "lenient", "ended", "language", "length")
    texts = open_text(measured)
    return {
        "before": measured.before,
        "after": measured.after,
        "rings": rings(measured),
        "form": {key: measured.both(measured.trained, key) for key in keys},
        "steps": steps(measured),
        "honesty": {model: honesty(measured, model) for model in (measured.before, measured.after)},
        "texts": texts,
        "pass": passes(measured),
        "controls": controls(measured, texts),
        "price": price(measured),
    }


def rings(measured: Measured) -> list[Result]:
    """Each part of each ring, before and after; p over all of them after Holm."""
    parts: dict[tuple[str, str], list[int]] = {}
    for i, item in enumerate(measured.items):
        parts.setdefault((item["ring"], item["part"]), []).append(i)
    rows = [_ring(measured, ring, part, places) for (ring, part), places in parts.items()]
    tested = [row for row in rows if row["p"] is not None]
    for row, p in zip(tested, stats.holm([row["p"] for row in tested])):
        row["p"] = p
    return rows


def _ring(measured: Measured, ring: str, part: str, places: Sequence[int]) -> Result:
    key = "gave" if ring == "R7" else "rate"
    p, carry = None, None
    if len(measured.results) == 1 and ring != "R7":  # pooling seeds would hide that they differ
        (greedy,) = measured.pairs(places, "greedy")
        p = stats.mcnemar(greedy.count((1, 0)), greedy.count((0, 1)))
    if ring in CARRIED and measured.headline.clear:
        carry = carried(measured.gains(places), measured.gains(measured.trained))
    before, after = measured.both(places, key)
    return {
        "ring": ring,
        "part": part,
        "n": len(places),
        "before": before,
        "after": after,
        **asdict(measured.difference(places, key)),
        "greedy": asdict(measured.difference(places, "greedy")),
        "p": p,
        "carry": carry,
    }


def steps(measured: Measured) -> dict[int, list[float | None]]:
    """[before, after] by the number of levels above the trained ones."""
    levels: dict[int, list[int]] = {}
    for i in (*measured.trained, *measured.places("R1")):
        levels.setdefault(measured.items[i]["up"], []).append(i)
    return {up: measured.both(levels[up]) for up in sorted(levels)}


def honesty(measured: Measured, model: str) -> Result:
    """Whether a model knows what it knows: calibration on the trained tasks, and what it says to the unanswerable."""
    blank = measured.places("R7")
    chances, truths = (measured.values(model, measured.trained, key) for key in ("confidence", "greedy"))
    pairs = [pair for c, t in zip(chances, truths) for pair in zip(c, t) if None not in pair]
    error, brier = calibration(pairs)
    said = {key: measured.mean(model, blank, key) for key in ("gave", "refuses")}
    return {"ece": error, "brier": brier, **said}


def open_text(measured: Measured) -> dict[str, Result]:
    """Of each model, bits per byte by language and their mean, and how varied its own texts are."""
    texts = {}
    for model in measured.results[0]["models"]:
        seeds = measured.of_models(model)
        bits = {lang: mean([seed["bits"][lang] for seed in seeds]) for lang in seeds[0]["bits"]}
        ways = {key: mean([seed[key] for seed in seeds]) for key in ("distinct", "repeats")}
        texts[model] = {"bits": bits, "bpb": mean(list(bits.values())), **ways}
    return texts


def passes(measured: Measured) -> Result:
    """pass@k before and after for k = 1, 2, 4 …, and the k from which the one before is no worse."""
    before, after = (
        [seed["deep"] for seed in measured.of_models(m)] for m in (measured.before, measured.after)
    )
    most = min((n for side in (before, after) for seed in side for n, _ in seed), default=0)
    rows: dict[str, Result] = {}
    for k in (2**e for e in range(most.bit_length())):
        pairs = [list(zip(_chances(a, k), _chances(b, k))) for a, b in zip(before, after)]
        means = [mean([pair[side] for seed in pairs for pair in seed]) for side in (0, 1)]
        found = {"before": means[0], "after": means[1], "n": len(pairs[0])}
        rows[str(k)] = {**found, **asdict(difference(pairs))}
    curve = {side: {int(k): row[side] for k, row in rows.items()} for side in ("before", "after")}
    return {"at": rows, "crossover": stats.crossover(curve["before"], curve["after"])}


def _chances(seed: Sequence[Sequence[int]], k: int) -> list[float]:
    return [stats.pass_at_k(n, right, k) for n, right in seed]


def controls(measured: Measured, texts: Mapping[str, Result]) -> list[Result]:
    """What the training is held against: voting among the samples of the model before, and every other model."""
    before = measured.before
    alone, voted = (measured.values(before, measured.trained, key) for key in ("rate", "majority"))
    votes = {
        "value": measured.mean(before, measured.trained, "majority"),
        **asdict(difference([list(zip(a, b)) for a, b in zip(alone, voted)])),
    }
    name = f"{before}, majority of {measured.results[0]['samples']}"
    rows = [{"model": name, "bpb": texts[before]["bpb"], "R0": votes}]
    for model in texts:
        if model != before:
            flops = mean([seed.get("flops") for seed in measured.of_models(model)])
            rows.append(
                {"model": model, "flops": flops, "bpb": texts[model]["bpb"], **_control(measured, model)}
            )
    return rows


def _control(measured: Measured, model: str) -> Result:
    by_ring = {ring: places for ring in EVERYONE if (places := measured.places(ring))}
    return {
        ring: {"value": measured.mean(model, places), **asdict(measured.difference(places, model=model))}
        for ring, places in by_ring.items()
    }


def price(measured: Measured) -> Result | None:
    """What one point on the trained tasks cost, where the training raised them."""
    costs = [result["cost"] for result in measured.results if result["cost"]]
    gain = measured.headline
    if not costs or not gain.clear or gain.delta <= 0:
        return None
    points = 100 * gain.delta
    return {
        key: value if key == "currency" else mean([cost[key] for cost in costs]) / points
        for key, value in costs[0].items()
    }
