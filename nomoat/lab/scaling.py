"""Diminishing returns: loss against compute on a ladder of sizes; what half the cost loses, what another point costs.

L(C) = E + a C^-b is fitted to the best size at each share of the time, C its executed FLOPs, and Chinchilla's
L(N, D) = E + A N^-alpha + B D^-beta (arXiv 2203.15556, section 3.3) to all, N their active parameters.  Departure: least
squares of relative errors in place of its Huber loss of logarithms.  Intervals: 95 %, the residuals drawn anew.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import torch

from nomoat.config import DataError, parse
from nomoat.files import shipped
from nomoat.lab.arms import Arm, Corpus, calibrate, series
from nomoat.lab.compare import merged
from nomoat.report.table import Table
from nomoat.run.ledger import duration, money, read_prices, short
from nomoat.stages.pipeline import device_class
from nomoat.stats import percentiles

COSTS = ("flops", "seconds", "joules", "tokens", "params_active", "bpb")


class Law(NamedTuple):
    """y = E + sum of a_i x_i^-b_i."""

    floor: float
    a: list[float]
    b: list[float]

    def at(self, *x: Any) -> Any:
        return self.floor + sum(a * x_i**-b for x_i, a, b in zip(x, self.a, self.b))

    def multiple(self, x: float, gain: float) -> float:
        """By how much `x`, the only variable, must grow for y to fall by `gain`; infinite where that is below E."""
        left = self.at(x) - gain - self.floor
        return (left / self.a[0]) ** (-1 / self.b[0]) / x if left > 0 else math.inf


def fit(x: np.ndarray, y: np.ndarray, grid: int = 16) -> Law:
    """The law of points x (n, k), y (n,), E and a not negative: b by ever finer grids, the rest in closed form."""
    k, unit = x.shape[1], np.exp(np.log(x).mean(0))
    low, high = np.full(k, 0.01), np.full(k, 2.0)
    best = (math.inf, low, low)  # error, b, E and a
    for _ in range(5):
        b = np.array(list(product(*np.geomspace(low, high, grid).T)))  # (candidates, k)
        terms = np.concatenate([np.ones((len(b), len(y), 1)), (x / unit) ** -b[:, None]], 2) / y[:, None]
        for present in product((0.0, 1.0), repeat=k + 1):  # which of E and a are above zero
            A = terms * np.array(present)
            c = np.linalg.solve(np.einsum("gni,gnj->gij", A, A) + 1e-12 * np.eye(k + 1), A.sum(1)[..., None])[..., 0]
            error = np.where((c >= 0).all(1), ((np.einsum("gni,gi->gn", A, c) - 1) ** 2).sum(1), math.inf)
            i = int(error.argmin())
            best = min(best, (float(error[i]), b[i], c[i]), key=lambda found: found[0])
        reach = (high / low) ** (2 / grid)
        low, high = np.maximum(best[1] / reach, 0.01), np.minimum(best[1] * reach, 2.0)
    return Law(float(best[2][0]), (best[2][1:] * unit ** best[1]).tolist(), best[1].tolist())


def redrawn(law: Law, x: np.ndarray, y: np.ndarray, draws: int) -> list[Law]:
    """Fits of the law's own points with the residuals drawn anew, widened for the parameters that the fit took."""
    fitted, rng = law.at(*x.T), random.Random("scaling")
    residuals = (y / fitted - 1) * math.sqrt(len(y) / max(len(y) - 1 - 2 * x.shape[1], 1))
    return [fit(x, fitted * (1 + np.array(rng.choices(residuals.tolist(), k=len(y))))) for _ in range(draws)]


def arms(table: Mapping[str, Any]) -> list[Arm]:
    """The ladder: every share of the largest run's time, at the sizes that may suit it."""
    pairs = [(share, size) for i, share in enumerate(table["shares"]) for size in table["sizes"][i : i + table["near"]]]
    return [parse(Arm, merged(table["base"], size, {"share": share, "name": f"{size['name']}, {share:g}"}), size["name"])
            for share, size in pairs]  # fmt: skip


def run(
    out: Path, seconds: float, n_seeds: int, *, text: str | None = None, device: str = "cpu",
    table: Mapping[str, Any] | None = None, tell: Callable[[str, float], None] = lambda what, share: None,
) -> dict[str, Any]:  # fmt: skip
    """Trains what `out` does not hold yet and gives findings(); `seconds` is the device time of the whole ladder."""
    table = table or shipped(__file__)
    chosen = arms(table)
    corpus = Corpus.make(out / "corpus", text=text, heldout_bytes=table["heldout_bytes"])
    price = device_class(torch.device(device))
    asked = {"seconds": seconds, "seeds": n_seeds, "text": text, "price": price, "table": table}
    steps = lambda: calibrate(chosen, corpus, seconds / n_seeds / sum(arm.share for arm in chosen), device)
    runs = lambda steps: [(arm, steps[arm.name]) for arm in chosen]
    setting, results = series(out, asked, steps, runs, corpus, n_seeds, device, tell)
    return findings(results, setting)


def findings(results: Sequence[Mapping[str, Any]], setting: Mapping[str, Any]) -> dict[str, Any]:
    """The points (means over the seeds), the laws, and from the frontier's end what half its cost loses and how many times
    its cost each gain takes.  An answer is [value, low, high], with None where no compute is enough."""
    table, prices, points, share = setting["table"], read_prices(), [], lambda p: p["arm"].rpartition(", ")[2]
    for arm in dict.fromkeys(r["arm"] for r in results):
        rows = [r for r in results if r["arm"] == arm]
        points.append({"arm": arm, "runs": [r["bpb"] for r in rows], **{key: mean(r[key] for r in rows) for key in COSTS}})
    for p in points:
        p["money"] = prices.money(prices.device(setting["price"]), p["joules"], p["seconds"] * setting["units"])
        rivals = [q for q in points if share(q) == share(p) or q["flops"] <= p["flops"]]
        p["frontier"] = all(q["bpb"] >= p["bpb"] for q in rivals)
    front = {p["arm"]: p for p in points if p["frontier"]}
    if len(front) < 3:
        raise DataError(f"{len(front)} runs on the frontier; expected 3 or more, to fit 3 parameters; give a larger budget")
    end = max(front.values(), key=lambda p: p["flops"])
    column = lambda rows, *keys: np.array([[r[key] for key in keys] for r in rows], float)
    best = [r for r in results if r["arm"] in front]
    x, y = column(best, "flops"), column(best, "bpb")[:, 0]
    laws = [law := fit(x, y), *redrawn(law, x, y, table["draws"])]

    def ask(of: Callable[[Law], float]) -> list[float | None]:
        values = [of(law) for law in laws]
        return [v if math.isfinite(v) else None for v in (values[0], *percentiles(values[1:]))]

    gains = [*table["gains"], *(part * end["bpb"] for part in table["relative_gains"])]
    return {
        "setting": setting, "results": results, "points": points, "end": end,
        "chinchilla": fit(column(results, "params_active", "tokens"), column(results, "bpb")[:, 0])._asdict(),
        "law": {"E": ask(lambda w: w.floor), "a": ask(lambda w: w.a[0]), "b": ask(lambda w: w.b[0])},
        "half": ask(lambda w: w.at(end["flops"] / 2) - w.at(end["flops"])),
        "gains": [[gain, ask(lambda w, gain=gain: w.multiple(end["flops"], gain))] for gain in gains],
        "curve": [[C, *ask(lambda w, C=C: w.at(C))] for C in np.geomspace(x.min(), 8 * x.max(), 60).tolist()],
    }  # fmt: skip


def tables(found: Mapping[str, Any]) -> list[Table]:
    """The ladder, and from its end what half the cost loses and what each gain costs."""
    end, heads = found["end"], ("FLOPs", "device time", "energy", read_prices().currency)
    form = lambda v, digits: "{} [{} to {}]".format(*("out of reach" if x is None else f"{x:.{digits}}" for x in v))
    costs = lambda p, times: (short(times * p["flops"]), duration(times * p["seconds"]),
                              short(times * p["joules"], "J"), money(times * p["money"]))  # fmt: skip
    ladder = [(p["arm"], short(p["params_active"]), short(p["tokens"]), *costs(p, 1.0), f"{p['bpb']:.4f}",
               "*" if p["frontier"] else "") for p in found["points"]]  # fmt: skip
    asked = [("half the cost", f"{form(found['half'], '4f')} more", "0.5", *costs(end, 0.5))]
    asked += [("better text", f"{gain:.4f} less", form(times, "3g"), *(costs(end, times[0]) if times[0] else [""] * 4))
              for gain, times in found["gains"]]  # fmt: skip
    note = "L(C) = E + a C^-b over the runs *: E = {}, b = {}. L(N, D) over all: E = {:.3f}, alpha = {:.2f}, beta = {:.2f}. "
    note = note.format(*(form(found["law"][k], "3f") for k in "Eb"), found["chinchilla"]["floor"], *found["chinchilla"]["b"])
    note += "95 % intervals; beyond the ladder all is extrapolated."
    return [Table("Ladder", ("run", "active", "tokens", *heads, "bits per byte", "best"), tuple(ladder)),
            Table(f"From {end['arm']} on", ("what", "bits per byte", "times", *heads), tuple(asked), note)]  # fmt: skip


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Bits per byte against executed FLOPs: every run, the law with its 95 % band, its floor."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes, (C, middle, low, high) = figure.subplots(), zip(*found["curve"])
    axes.fill_between(C, low, high, color="C0", alpha=0.15, lw=0)
    axes.plot(C, middle, color="C0", label="E + a C^-b")
    if found["law"]["E"][0]:
        axes.axhline(found["law"]["E"][0], ls=":", color="C0", label="E")
    for i, size in enumerate(dict.fromkeys(p["arm"].partition(",")[0] for p in found["points"]), 1):
        points = [(p["flops"], bpb) for p in found["points"] if p["arm"].startswith(f"{size},") for bpb in p["runs"]]
        axes.plot(*zip(*points), "o", color=f"C{i}", ms=3.5, label=size)
    axes.set(xscale="log", xlabel="executed FLOPs", ylabel="held-out bits per byte")
    axes.grid(alpha=0.3), axes.legend(ncols=2)
    figure.savefig(path)
