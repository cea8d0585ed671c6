"""Diminishing returns: loss against compute on a ladder of sizes; what half the cost loses, what another
point costs.

L(C) = E + a C^-b is fitted to the best size at each share of the time, C its executed FLOPs, and Chinchilla's
L(N, D) = E + A N^-alpha + B D^-beta (arXiv 2203.15556, section 3.3) to all, N their active
parameters.  Intervals: 95 %, the residuals drawn anew.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np

from nomoat.config import DataError, parse
from nomoat.files import shipped, writing
from nomoat.lab.arms import Arm, calibrate, trained
from nomoat.lab.corpus import Corpus
from nomoat.lab.law import Law, fit, redrawn
from nomoat.lab.series import Json, Row, Runs, Series, by_arm, merged
from nomoat.report.table import Table
from nomoat.run.ledger import duration, money, read_prices, short
from nomoat.stats import grouped, percentiles

COSTS = ("flops", "seconds", "joules", "tokens", "params_active", "bpb")
FEWEST_POINTS = 3  # as many as the law has parameters
CURVE_POINTS, CURVE_BEYOND = 60, 8  # of the plot; how far beyond the last run


def arms(table: Json) -> list[Arm]:
    """The ladder: every share of the largest run's time, at the sizes that may suit it."""
    rungs = []
    for i, share in enumerate(table["shares"]):
        near = table["sizes"][i : i + table["near"]]
        for size in near:
            changes = {"share": share, "name": f"{size['name']}, {share:g}"}
            arm = merged(table["base"], size, changes)
            rungs.append(parse(Arm, arm, size["name"]))
    return rungs


def run(series: Series, table: Json | None = None) -> Json:
    """Trains what the folder does not hold yet and gives findings(); the time of a series is the whole
    ladder's."""
    table = table or shipped(__file__)
    chosen = arms(table)
    corpus = Corpus.make(series.out / "corpus", text=series.text, heldout_bytes=table["heldout_bytes"])
    shares = sum(arm.share for arm in chosen)
    seconds = series.seconds / series.n_seeds / shares
    steps = partial(calibrate, chosen, corpus, seconds)
    setting = series.setting(steps, seeds=series.n_seeds, price="cpu", table=table)
    runs = [(arm, setting["steps"][arm.name]) for arm in chosen]
    results = series.results(partial(trained, series, corpus, runs))
    return findings(results, setting)


def points_of(results: Runs, setting: Json) -> list[Json]:
    """Means over the seeds of each arm, with its money, and whether it is on the frontier.

    On it is what no run of the same share and none of as few FLOPs beats.
    """
    prices, points = read_prices(), []
    device = prices.device(setting["price"])
    for arm, rows in by_arm(results).items():
        point = {"arm": arm, "runs": [row["bpb"] for row in rows]}
        point |= {key: mean(row[key] for row in rows) for key in COSTS}
        point["money"] = prices.money(device, point["joules"], point["seconds"] * setting["units"])
        points.append(point)
    for point in points:
        rivals = [p for p in points if share_of(p) == share_of(point) or p["flops"] <= point["flops"]]
        point["frontier"] = point["bpb"] <= min(rival["bpb"] for rival in rivals)
    return points


def share_of(point: Row) -> str:
    return point["arm"].rpartition(", ")[2]


def findings(results: Runs, setting: Json) -> Json:
    """The points, the laws, and from the frontier's end what half its cost loses and how many times its cost
    a gain takes.

    An answer is [value, low, high], with None where no compute is enough.
    """
    table, points = setting["table"], points_of(results, setting)
    frontier = {point["arm"]: point for point in points if point["frontier"]}
    if len(frontier) < FEWEST_POINTS:
        raise DataError(
            f"{len(frontier)} runs on the frontier; expected {FEWEST_POINTS} or more, "
            f"to fit {FEWEST_POINTS} parameters; give a larger budget"
        )
    end = max(frontier.values(), key=lambda point: point["flops"])
    best = [row for row in results if row["arm"] in frontier]
    x, y = columns(best, "flops"), columns(best, "bpb")[:, 0]
    law = fit(x, y)
    ask = partial(answer, [law, *redrawn(law, x, y, table["draws"])])
    chinchilla = fit(columns(results, "params_active", "tokens"), columns(results, "bpb")[:, 0])
    flops = end["flops"]
    gains = [*table["gains"], *(part * end["bpb"] for part in table["relative_gains"])]
    curve = np.geomspace(x.min(), CURVE_BEYOND * x.max(), CURVE_POINTS).tolist()
    return {
        "setting": setting,
        "results": results,
        "points": points,
        "end": end,
        "chinchilla": asdict(chinchilla),
        "law": {
            "E": ask(lambda law: law.floor),
            "a": ask(lambda law: law.a[0]),
            "b": ask(lambda law: law.b[0]),
        },
        "half": ask(lambda law: law.at(flops / 2) - law.at(flops)),
        "gains": [[gain, ask(lambda law, gain=gain: law.multiple(flops, gain))] for gain in gains],
        "curve": [[C, *ask(lambda law, C=C: law.at(C))] for C in curve],
    }


def columns(rows: Runs, *keys: str) -> np.ndarray:
    return np.array([[row[key] for key in keys] for row in rows], float)


def answer(laws: Sequence[Law], of: Callable[[Law], float]) -> list[float | None]:
    """The first law's value, and the interval of the others'."""
    value, *others = map(of, laws)
    return [x if math.isfinite(x) else None for x in (value, *percentiles(others))]


def tables(scaling: Json) -> list[Table]:
    """The ladder, and from its end what half the cost loses and what each gain costs."""
    end, costs = scaling["end"], ("FLOPs", "device time", "energy", read_prices().currency)
    ladder = list(map(point_cells, scaling["points"]))
    rows = [("half the cost", f"{interval(scaling['half'], '.4f')} more", "0.5", *cost_cells(end, 0.5))]
    for gain, times in scaling["gains"]:
        cells = cost_cells(end, times[0]) if times[0] else ("", "", "", "")
        rows.append(("better text", f"{gain:.4f} less", interval(times, ".3g"), *cells))
    header = ("run", "active", "tokens", *costs, "bits per byte", "best")
    return [
        Table("Ladder", header, ladder),
        Table(
            f"From {end['arm']} on", ("what", "bits per byte", "times", *costs), rows, note_of(scaling)
        ),
    ]


def note_of(scaling: Json) -> str:
    floor, exponent = interval(scaling["law"]["E"], ".3f"), interval(scaling["law"]["b"], ".3f")
    chinchilla = scaling["chinchilla"]
    alpha, beta = chinchilla["b"]
    return (
        f"L(C) = E + a C^-b over the runs *: E = {floor}, b = {exponent}. "
        f"L(N, D) over all: E = {chinchilla['floor']:.3f}, alpha = {alpha:.2f}, beta = {beta:.2f}. "
        "95 % intervals; beyond the ladder all is extrapolated."
    )


def point_cells(point: Row) -> tuple[str, ...]:
    return (
        point["arm"],
        short(point["params_active"]),
        short(point["tokens"]),
        *cost_cells(point, 1.0),
        f"{point['bpb']:.4f}",
        "*" if point["frontier"] else "",
    )


def cost_cells(point: Row, times: float) -> tuple[str, ...]:
    return (
        short(times * point["flops"]),
        duration(times * point["seconds"]),
        short(times * point["joules"], "J"),
        money(times * point["money"]),
    )


def interval(answer: Sequence[float | None], form: str) -> str:
    value, low, high = ("out of reach" if x is None else format(x, form) for x in answer)
    return f"{value} [{low} to {high}]"


def plot(scaling: Json, path: Path) -> None:
    """Bits per byte against executed FLOPs: every run, the law with its 95 % band, its floor."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    flops, middle, low, high = zip(*scaling["curve"])
    axes.fill_between(flops, low, high, color="C0", alpha=0.15, lw=0)
    axes.plot(flops, middle, color="C0", label="E + a C^-b")
    floor = scaling["law"]["E"][0]
    if floor:
        axes.axhline(floor, ls=":", color="C0", label="E")
    sizes = grouped(
        (point["arm"].partition(",")[0], (point["flops"], bpb))
        for point in scaling["points"]
        for bpb in point["runs"]
    )
    for i, (size, runs) in enumerate(sizes.items(), 1):
        axes.plot(*zip(*runs), "o", color=f"C{i}", ms=3.5, label=size)
    axes.set(xscale="log", xlabel="executed FLOPs", ylabel="held-out bits per byte")
    axes.grid(alpha=0.3)
    axes.legend(ncols=2)
    with writing(path, path):
        figure.savefig(path)
