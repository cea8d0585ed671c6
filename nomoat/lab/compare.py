"""The factor: how much less the same quality costs than by the conventional cookbook, side by side.

B0 is the cookbook as published, B1 the same block tuned as ours was (compare.toml has all arms, LOG.md the
trials). Ours is trained at several shares of their budget, each run with its own schedule to the end.  The
factor against a baseline is its cost over the cost at which ours reaches the same final held-out bits per
byte, interpolated in the logarithm of the cost between ours' own finished runs, never read off the middle of
a longer schedule.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from nomoat.config import parse
from nomoat.data import documents, ngram
from nomoat.files import shipped, writing
from nomoat.lab.arms import Arm, calibrate, trained
from nomoat.lab.corpus import Corpus
from nomoat.lab.series import Json, Runs, Series, by_arm, kept, merged, student
from nomoat.report.table import Table
from nomoat.run.ledger import duration, short

METRICS = {"seconds": "device time", "flops": "executed FLOPs", "joules": "energy", "tokens": "tokens"}
NGRAMS = (5, 6)
N_NEIGHBOURS = 3  # shares whose slope a saving is held against


class Side(NamedTuple):
    """Where a saving is changed, the sign of its gain, and whether it is there before."""

    start: str
    sign: int
    used: bool


SIDES = {
    "off": Side("ours", 1, True),
    "with": Side("ours", -1, False),
    "on": Side("B1", -1, False),
    "without": Side("B1", 1, True),
}


def arms(waterfall: bool = False) -> list[Arm]:
    """The arms of compare.toml: baselines, ours at each share, and with `waterfall` each saving alone, off
    and on."""
    table = shipped(__file__)
    baselines = {}
    for name, changes in table["baselines"].items():
        baselines[name] = {**merged(table["block"], changes), "name": name}
    rows = list(baselines.values())
    for share in table["shares"]:
        rows.append({**table["ours"], "name": at(share), "share": share})
    if waterfall:
        rows += waterfall_rows(table, {"ours": table["ours"], "B1": baselines["B1"]})
    return [parse(Arm, row, row["name"]) for row in rows]


def waterfall_rows(table: Json, starts: Json) -> Iterator[Json]:
    share = table["waterfall_share"]
    yield {**starts["B1"], "name": at(share, "B1"), "share": share}
    for saving in table["savings"]:
        for name, side in SIDES.items():
            if name not in saving:
                continue
            change = saving[name]
            start = dict(starts[side.start])
            if "block" in change:  # another block has another model
                start.pop("model")
            arm = {"name": f"{saving['name']}, {name}", "share": share}
            yield merged(start, change, arm)


def at(share: float, name: str = "ours") -> str:
    return f"{name} at 1/{1 / share:g}"


def run(series: Series, waterfall: bool = False) -> Json:
    """Trains what the folder does not hold yet, and gives the whole; the time of a series is one
    baseline's."""
    chosen = arms(waterfall)
    corpus = Corpus.make(series.out / "corpus", text=series.text)
    asked = {arm.name: arm.model_dump() for arm in chosen}
    setting = series.setting(partial(calibrate, chosen, corpus, series.seconds), device="cpu", arms=asked)
    runs = [(arm, setting["steps"][arm.name]) for arm in chosen]
    results = series.results(partial(trained, series, corpus, runs))
    return {
        "setting": setting,
        "results": results,
        "ngrams": kept(series.out / "ngrams.json", partial(count, series.text, corpus)),
        **findings(results),
    }


def count(text: str | None, corpus: Corpus) -> list[Json]:
    """What counting alone reaches: byte models of the same training text on the same held-out bytes."""
    held = ["\n".join(texts).encode() for texts in corpus.held.values()]
    n_bytes = sum(map(len, held))
    rows = []
    for order in NGRAMS:
        start = time.perf_counter()
        read = "\n".join(document.text for document in documents.text(text, None))
        model = ngram.train(read.encode(), order)
        seconds = time.perf_counter() - start
        bits = 0.0
        for text_bytes in held:
            bits += len(text_bytes) * ngram.bits_per_byte(model, text_bytes)
        rows.append({"arm": f"byte {order}-gram", "seconds": seconds, "bpb": bits / n_bytes})
    return rows


def mean_of(rows: Runs, key: str) -> float:
    return mean(row[key] for row in rows)


def findings(results: Runs) -> Json:
    """Factors against each baseline by each metric, and the waterfall where its arms were trained."""
    table, arms = shipped(__file__), by_arm(results)
    sweep = [arms[at(share)] for share in sorted(table["shares"])]
    factors = {
        name: {metric: factor(arms[name], sweep, metric) for metric in METRICS}
        for name in table["baselines"]
        if name in arms
    }
    return {"factors": factors, "waterfall": waterfall_of(table, arms)}


class Bound(NamedTuple):
    """A factor; `sign` is "=", or ">" where it is at least this, "<" where at most."""

    value: float
    sign: str


def factor(baseline: Runs, sweep: Sequence[Runs], metric: str) -> Json:
    """The baseline's cost over ours at equal final bits per byte: of the means, and Student's 95 % interval.

    `bound` is "=" where ours' runs stand on both sides of the baseline's quality; ">" where even the smallest
    is better, "<" where even the largest is worse: then the value is that run's own ratio.
    """
    seeds = range(min(len(baseline), *map(len, sweep)))
    whole = cost_ratio(baseline, sweep, metric, seeds)
    logs = [math.log(cost_ratio(baseline, sweep, metric, [seed]).value) for seed in seeds]
    interval = student(logs)
    low, high = map(math.exp, interval) if interval else (None, None)
    return {"value": whole.value, "low": low, "high": high, "bound": whole.sign, "seeds": len(seeds)}


def cost_ratio(baseline: Runs, sweep: Sequence[Runs], metric: str, seeds: Sequence[int]) -> Bound:
    """Of the means over some seeds; `sweep` from the smallest run to the largest."""

    def over(rows: Runs, key: str) -> float:
        return mean(rows[seed][key] for seed in seeds)

    goal = over(baseline, "bpb")
    cost = over(baseline, metric)
    bits = [over(rows, "bpb") for rows in sweep]
    logs = [math.log(over(rows, metric)) for rows in sweep]
    if bits[0] <= goal:
        sign, log = ">", logs[0]
    elif bits[-1] > goal:
        sign, log = "<", logs[-1]
    else:
        end = next(i for i, bpb in enumerate(bits) if bpb <= goal)
        start = end - 1
        part = (bits[start] - goal) / (bits[start] - bits[end])
        sign = "="
        log = logs[start] + part * (logs[end] - logs[start])
    return Bound(cost / math.exp(log), sign)


def waterfall_of(table: Json, arms: Mapping[str, Runs]) -> list[Json]:
    """Each saving's gain as a factor of the budget, at a share of it."""
    share = table["waterfall_share"]
    if at(share, "B1") not in arms:
        return []
    slopes = slopes_at(share, table["shares"], arms)
    smaller = {
        "ours": share / min(table["shares"]),
        "B1": 1 / share,
    }  # by how much the smallest trained budget is
    rows = []
    for saving in table["savings"]:
        row = {"saving": saving["name"]}
        for name, side in SIDES.items():
            if name in saving:
                changed, start = arms[f"{saving['name']}, {name}"], arms[at(share, side.start)]
                gain = gain_of(changed, start, side.sign, slopes[side.start])
                row[side.start] = {**gain, "known": smaller[side.start], "used": side.used}
        rows.append(row)
    return rows


def slopes_at(share: float, shares: Sequence[float], arms: Mapping[str, Runs]) -> dict[str, float]:
    """Bits per byte that a budget e times as large brings around a share, of ours' sweep and of B1."""
    near = sorted(shares, key=lambda other: abs(math.log(other / share)))[:N_NEIGHBOURS]
    low, high = min(near), max(near)
    ours = mean_of(arms[at(low)], "bpb") - mean_of(arms[at(high)], "bpb")
    baseline = mean_of(arms[at(share, "B1")], "bpb") - mean_of(arms["B1"], "bpb")
    return {"ours": ours / math.log(high / low), "B1": baseline / math.log(1 / share)}


def gain_of(changed: Runs, start: Runs, sign: int, slope: float) -> dict[str, float]:
    """The difference in bits per byte, and as a factor: that over the slope, and the difference in device
    time."""
    gaps, logs = [], []
    for row, other in zip(changed, start):
        gap = sign * (row["bpb"] - other["bpb"])
        gaps.append(gap)
        logs.append(gap / slope + sign * math.log(row["seconds"] / other["seconds"]))
    return {
        "bpb": mean(gaps),
        "gain": math.exp(mean(logs)),
        "low": math.exp(min(logs)),
        "high": math.exp(max(logs)),
    }


def tables(comparison: Json) -> list[Table]:
    """The arms, the factors and the waterfall, for the terminal."""
    results = comparison["results"]
    source = ", ".join(sorted({row["joules_source"] for row in results}))
    shown = [
        arms_table(results, comparison.get("ngrams", []), source),
        factors_table(comparison["factors"], source),
    ]
    return [*shown, waterfall_table(comparison["waterfall"])] if comparison["waterfall"] else shown


# header -> field of a result, and how its mean is written
COLUMNS = {
    "device time": ("seconds", duration),
    "FLOPs": ("flops", short),
    "energy": ("joules", partial(short, unit="J")),
    "tokens": ("tokens", short),
    "parameters": ("params_total", short),
    "state": ("state_bytes", partial(short, unit="B")),
}


def arms_table(results: Runs, ngrams: Runs, source: str) -> Table:
    rows = []
    savings = tuple(f", {side}" for side in SIDES)
    for name, runs in by_arm(results).items():
        if not name.endswith(savings):
            bits = [row["bpb"] for row in runs]
            spread = f"{mean(bits):.3f} ({min(bits):.3f}-{max(bits):.3f})"
            figures = (written(mean_of(runs, key)) for key, written in COLUMNS.values())
            rows.append((name, spread, *figures))
    unknown = [""] * (len(COLUMNS) - 1)
    for row in ngrams:
        rows.append((row["arm"], f"{row['bpb']:.3f}", duration(row["seconds"]), *unknown))
    n_seeds = len({row["seed"] for row in results})
    note = (
        f"Means over {n_seeds} seeds (lowest-highest); energy {source}; "
        "FLOPs executed, the optimiser's included."
    )
    return Table("Side by side", ("arm", "bits per byte", *COLUMNS), rows, note)


def factors_table(factors: Mapping[str, Json], source: str) -> Table:
    rows = [(name, *(factor_cell(by[metric]) for metric in METRICS)) for name, by in factors.items()]
    note = (
        "The baseline's cost over ours' at equal final held-out bits per byte; in brackets Student's 95 % "
        f"over the seeds; below 1 ours loses. Energy {source}: as an estimate it is time again."
    )
    return Table("How many times cheaper", ("against", *METRICS.values()), rows, note)


def factor_cell(factor: Json) -> str:
    if factor["bound"] != "=":
        return f"{factor['bound']} {factor['value']:.1f}"
    interval = f" [{factor['low']:.1f}, {factor['high']:.1f}]" if factor["low"] else ""
    return f"{factor['value']:.1f}{interval}"


def waterfall_table(waterfall: Sequence[Json]) -> Table:
    rows = [(row["saving"], gain_cell(row.get("ours")), gain_cell(row.get("B1"))) for row in waterfall]
    note = (
        "As factors of the budget (lowest and highest seed), 1 is no effect: off, what is lost where it is "
        "there and left out alone; on, what is gained where it is not there and put in alone."
    )
    return Table("Where it comes from", ("saving", "in ours", "in B1"), rows, note)


def gain_cell(gain: Json | None) -> str:
    if gain is None:
        return ""
    side = "off" if gain["used"] else "on"
    if gain["gain"] > gain["known"]:
        return f"> {gain['known']:g} {side}"
    return f"{gain['gain']:.2f} ({gain['low']:.2f}-{gain['high']:.2f}) {side}"


def plot(comparison: Json, path: Path) -> None:
    """Final bits per byte against device time and FLOPs: every seed, the means, and an arrow with the
    factor."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    labels = {"seconds": "device seconds", "flops": "executed FLOPs"}
    for axes, (metric, label) in zip(figure.subplots(1, 2, sharey=True), labels.items()):
        plot_metric(axes, comparison, metric)
        axes.set(xscale="log", xlabel=label)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("held-out bits per byte")
    figure.axes[0].legend()
    with writing(path, path):
        figure.savefig(path)


def plot_metric(axes: Any, comparison: Json, metric: str) -> None:
    table, arms = shipped(__file__), by_arm(comparison["results"])

    def seeds(name: str, marker: str, color: str) -> tuple[float, float]:
        """Draws every seed, gives the mean."""
        rows = arms[name]
        costs = [row[metric] for row in rows]
        bits = [row["bpb"] for row in rows]
        axes.plot(costs, bits, marker, color=color, ms=3, alpha=0.4)
        return mean(costs), mean(bits)

    shares = sorted(table["shares"])
    sweep = [seeds(at(share), "o", "C0") for share in shares]
    axes.plot(*zip(*sweep), "-o", color="C0", label="ours")
    for i, name in enumerate(table["baselines"], 1):
        color = f"C{i}"
        x, y = seeds(name, "s", color)
        axes.plot(x, y, "s", color=color, label=name)
        factor = comparison["factors"][name][metric]
        cheaper = factor["value"]
        if factor["bound"] == "=":
            arrow = {"arrowstyle": "->", "color": color}
            axes.annotate("", (x / cheaper, y), (x, y), arrowprops=arrow)
            middle = x / math.sqrt(cheaper)
            axes.text(middle, y, f"{cheaper:.1f} x", ha="center", va="bottom", color=color)
