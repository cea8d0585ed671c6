"""What follows from two models' answers to the same problems: differences, what carried, pass@k, price."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from nomoat import stats
from nomoat.config import DataError
from nomoat.evals.rings import EVERYONE
from nomoat.evals.transfer import Result
from nomoat.stats import grouped, mean

CARRIED = ("R1", "R2", "R3", "R4")
Pair = tuple[float | None, float | None]
Seeds = Sequence[Sequence[Pair]]  # of each training seed, (before, after) by problem


@dataclass(frozen=True)
class Difference:
    """A mean of after - before with its 95 % interval; None where nothing was measured."""

    delta: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.delta is not None and (self.low > 0 or self.high < 0)


def difference(seeds: Seeds) -> Difference:
    """The mean difference; pairs with nothing on one side are left out."""
    gaps = []
    for pairs in seeds:
        gap = [(after - before,) for before, after in pairs if None not in (before, after)]
        gaps += [gap] if gap else []
    if not gaps:
        return Difference()
    delta = mean(mean(x for (x,) in gap) for gap in gaps)
    low, high = stats.percentiles([drawn for (drawn,) in stats.resampled(gaps)])
    if low == high:  # all alike: resampling would say that nothing is uncertain
        half = stats.wilson(0, sum(map(len, gaps)))[1]
        low, high = max(-1.0, delta - half), min(1.0, delta + half)
    return Difference(delta, low, high)


def side(seeds: Seeds, which: int) -> float | None:
    """The mean before (0) or after (1)."""
    return mean(pair[which] for pairs in seeds for pair in pairs)


def compared(seeds: Seeds) -> Result:
    """Both sides and their difference."""
    return {"before": side(seeds, 0), "after": side(seeds, 1), **asdict(difference(seeds))}


def over(seeds: Seeds) -> Result:
    """What is held against the side before, and the difference."""
    return {"value": side(seeds, 1), **asdict(difference(seeds))}


def carried(far: Sequence[Mapping[str, float]], near: Sequence[Mapping[str, float]]) -> list[float] | None:
    """[gain far / gain near, low, high] of each seed's gains by cluster; what is in both is drawn in both."""
    alike = all(len(set(gains.values())) == 1 for gains in far)
    if alike or not all(far) or not all(near):  # no interval to be had
        return None
    seeds = list(map(_side_by_side, far, near))
    gain_far = mean([side([pairs], 0) for pairs in seeds])
    gain_near = mean([side([pairs], 1) for pairs in seeds])
    ratios = []
    for drawn_far, drawn_near in stats.resampled(seeds):
        if drawn_near:
            ratios.append(drawn_far / drawn_near)
    if not gain_near or not ratios:
        return None
    low, high = stats.percentiles(ratios)
    return [gain_far / gain_near, low, high]


def _side_by_side(far: Mapping[str, float], near: Mapping[str, float]) -> list[Pair]:
    """Both gains of each cluster; rewordings beside the same problems alone."""
    clusters = far if set(far) <= set(near) else {**far, **near}
    return [(far.get(cluster), near.get(cluster)) for cluster in sorted(clusters)]


def calibration(pairs: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
    """(expected calibration error over 15 equally wide bins, Brier score) of pairs (chance, truth)."""
    if not pairs:
        return None, None
    bins = defaultdict(float)
    squares = 0.0
    for chance, truth in pairs:
        bins[min(int(chance * 15), 14)] += chance - truth
        squares += (chance - truth) ** 2
    error = sum(map(abs, bins.values()))
    return error / len(pairs), squares / len(pairs)


class Measured:
    """The results of one or more training seeds over one suite."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = results
        self.items = results[0]["items"]
        self.before = results[0]["config"]["before"]
        self.after = results[0]["config"]["after"]
        self.trained = self.places("R0")

    def places(self, ring: str) -> list[int]:
        return [i for i, item in enumerate(self.items) if item["ring"] == ring]

    def seeds(self, model: str) -> list[Result]:
        """What each training seed's model of that name did."""
        return [result["models"][model] for result in self.results]

    def values(self, model: str, places: Sequence[int], key: str) -> list[list[float | None]]:
        """Of each seed, what was kept under a key for some problems; None where nothing was."""
        return [[(seed["answers"][i] or {}).get(key) for i in places] for seed in self.seeds(model)]

    def all_values(self, model: str, places: Sequence[int], key: str) -> list[float | None]:
        return [value for seed in self.values(model, places, key) for value in seed]

    def pairs(self, places: Sequence[int], key: str = "rate", model: str | None = None) -> Seeds:
        """The model before beside the one after, or another one."""
        before, after = (self.values(m, places, key) for m in (self.before, model or self.after))
        return [list(zip(b, a)) for b, a in zip(before, after)]

    def both(self, places: Sequence[int], key: str = "rate") -> list[float | None]:
        """[before, after]"""
        return [side(self.pairs(places, key), which) for which in (0, 1)]

    def gains(self, places: Sequence[int]) -> list[dict[str, float]]:
        """Of each seed, the difference by cluster."""
        clusters = [self.items[i]["cluster"] for i in places]
        seeds = [zip(clusters, pairs) for pairs in self.pairs(places)]
        return [{c: after - before for c, (before, after) in s if None not in (before, after)} for s in seeds]

    @cached_property
    def headline(self) -> Difference:
        """What became of the trained tasks."""
        return difference(self.pairs(self.trained))


def combine(results: Sequence[Result]) -> Result:
    """Several training seeds in one: seeds are resampled, then problems; `seeds` keeps each alone."""
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
    parts = [(item["ring"], item["part"]) for item in measured.items]
    rows = []
    for part, places in grouped(zip(parts, range(len(parts)))).items():
        rows.append(_ring(measured, *part, places))
    tested = [row for row in rows if row["p"] is not None]
    adjusted = stats.holm([row["p"] for row in tested])
    for row, p in zip(tested, adjusted):
        row["p"] = p
    return rows


def _ring(measured: Measured, ring: str, part: str, places: Sequence[int]) -> Result:
    greedy = measured.pairs(places, "greedy")
    p, carry = None, None
    if len(greedy) == 1 and ring != "R7":  # pooling seeds would hide that they differ
        p = stats.mcnemar(greedy[0].count((1, 0)), greedy[0].count((0, 1)))
    if ring in CARRIED and measured.headline.clear:
        carry = carried(measured.gains(places), measured.gains(measured.trained))
    return {
        "ring": ring,
        "part": part,
        "n": len(places),
        **compared(measured.pairs(places, "gave" if ring == "R7" else "rate")),
        "greedy": asdict(difference(greedy)),
        "p": p,
        "carry": carry,
    }


def steps(measured: Measured) -> dict[int, list[float | None]]:
    """[before, after] by the number of levels above the trained ones."""
    levels = grouped((measured.items[i]["up"], i) for i in (*measured.trained, *measured.places("R1")))
    return {up: measured.both(levels[up]) for up in sorted(levels)}


def honesty(measured: Measured, model: str) -> Result:
    """Whether a model knows what it knows: calibration on trained tasks, replies to the unanswerable."""
    chances = measured.all_values(model, measured.trained, "confidence")
    truths = measured.all_values(model, measured.trained, "greedy")
    error, brier = calibration([pair for pair in zip(chances, truths) if None not in pair])
    blank = measured.places("R7")
    return {
        "ece": error,
        "brier": brier,
        **{key: mean(measured.all_values(model, blank, key)) for key in ("gave", "refuses")},
    }


def open_text(measured: Measured) -> dict[str, Result]:
    """Of each model, bits per byte by language and their mean, and how varied its own texts are."""
    texts = {}
    for model in measured.results[0]["models"]:
        seeds = measured.seeds(model)
        bits = {lang: mean([seed["bits"][lang] for seed in seeds]) for lang in seeds[0]["bits"]}
        texts[model] = {
            "bits": bits,
            "bpb": mean(bits.values()),
            **{key: mean(seed[key] for seed in seeds) for key in ("distinct", "repeats")},
        }
    return texts


def passes(measured: Measured) -> Result:
    """pass@k before and after for k = 1, 2, 4 …, and the k from which the one before is no worse."""
    before = measured.seeds(measured.before)
    after = measured.seeds(measured.after)
    counts = [n for seed in (*before, *after) for n, _ in seed["deep"]]
    most = min(counts, default=0)
    rows = {}
    for exponent in range(most.bit_length()):
        k = 2**exponent
        pairs = [_chances(b, a, k) for b, a in zip(before, after)]
        rows[k] = {"n": len(pairs[0]), **compared(pairs)}
    curves = ({k: row[side] for k, row in rows.items()} for side in ("before", "after"))
    return {
        "at": {str(k): row for k, row in rows.items()},
        "crossover": stats.crossover(*curves),
    }


def _chances(before: Result, after: Result, k: int) -> list[Pair]:
    sides = ([stats.pass_at_k(n, right, k) for n, right in seed["deep"]] for seed in (before, after))
    return list(zip(*sides))


def controls(measured: Measured, texts: Mapping[str, Result]) -> list[Result]:
    """What the training is held against: votes among the samples of the model before, and other models."""
    before = measured.before
    alone, voted = (measured.values(before, measured.trained, key) for key in ("rate", "majority"))
    votes = over([list(zip(a, b)) for a, b in zip(alone, voted)])
    name = f"{before}, majority of {measured.results[0]['samples']}"
    rows = [{"model": name, "bpb": texts[before]["bpb"], "R0": votes}]
    for model in texts:
        if model == before:
            continue
        flops = mean([seed.get("flops") for seed in measured.seeds(model)])
        row = {"model": model, "flops": flops, "bpb": texts[model]["bpb"]}
        for ring in EVERYONE:
            if places := measured.places(ring):
                row[ring] = over(measured.pairs(places, model=model))
        rows.append(row)
    return rows


def price(measured: Measured) -> Result | None:
    """What one point on the trained tasks cost, where the training raised them."""
    costs = [result["cost"] for result in measured.results if result["cost"]]
    gain = measured.headline
    if not costs or not gain.clear or gain.delta < 0:
        return None
    of_a_point = dict(costs[0])
    for key in of_a_point:
        if key != "currency":
            of_a_point[key] = mean([cost[key] for cost in costs]) / (100 * gain.delta)
    return of_a_point
