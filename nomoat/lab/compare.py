"""The factor: how much less the same quality costs than by the conventional cookbook, side by side.

B0 is the cookbook as published, B1 the same block tuned as ours was (compare.toml has all arms, LOG.md the trials).
Ours is trained at several shares of their budget, each run with its own schedule to the end.  The factor against a
baseline is its cost over the cost at which ours reaches the same final held-out bits per byte, interpolated in the
logarithm of the cost between ours' own finished runs, never read off the middle of a longer schedule.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from nomoat.config import parse
from nomoat.data import documents, ngram
from nomoat.files import shipped
from nomoat.lab.arms import Arm, Corpus, calibrate, kept, series, student
from nomoat.report.table import Table
from nomoat.run.ledger import duration, short

METRICS = {"seconds": "device time", "flops": "executed FLOPs", "joules": "energy", "tokens": "tokens"}
NGRAMS = (5, 6)
SIDES = {"off": ("ours", 1), "with": ("ours", -1), "on": ("B1", -1), "without": ("B1", 1)}  # what is changed; sign of a gain

Row = Mapping[str, Any]  # a Result as JSON


def merged(*tables: Mapping[str, Any]) -> dict[str, Any]:
    """The tables laid over each other, nested ones key by key, whole where the kind is another."""
    out: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
            both = both and value.get("kind", out[key].get("kind")) == out[key].get("kind")
            out[key] = merged(out[key], value) if both else value
    return out


def arms(waterfall: bool = False) -> list[Arm]:
    """The arms of compare.toml: baselines, ours at each share, and with `waterfall` each saving alone, off and on."""
    table = shipped(__file__)
    baselines = {name: {**merged(table["block"], entry), "name": name} for name, entry in table["baselines"].items()}
    rows = list(baselines.values())
    rows += [{**table["ours"], "name": ours(share), "share": share} for share in table["shares"]]
    if waterfall:
        at = table["waterfall_share"]
        rows.append({**baselines["B1"], "name": ours(at, "B1"), "share": at})
        for saving in table["savings"]:
            for side in (side for side in SIDES if side in saving):
                start = table["ours"] if SIDES[side][0] == "ours" else baselines["B1"]
                start = {k: v for k, v in start.items() if k != "model" or "block" not in saving[side]}
                rows.append(merged(start, saving[side], {"name": f"{saving['name']}, {side}", "share": at}))
    return [parse(Arm, row, row["name"]) for row in rows]


def ours(share: float, name: str = "ours") -> str:
    return f"{name} at 1/{1 / share:g}"


def run(
    out: Path, seconds: float, n_seeds: int, *, text: str | None = None, waterfall: bool = False, device: str = "cpu",
    tell: Callable[[str, float], None] = lambda what, share: None,
) -> dict[str, Any]:  # fmt: skip
    """Trains what `out` does not hold yet and gives the whole comparison; `seconds` is one baseline's device time."""
    chosen = arms(waterfall)
    corpus = Corpus.make(out / "corpus", text=text)
    asked = {"seconds": seconds, "text": text, "device": device, "arms": {a.name: a.model_dump() for a in chosen}}
    steps = lambda: calibrate(chosen, corpus, seconds, device)
    runs = lambda steps: [(arm, steps[arm.name]) for arm in chosen]
    setting, results = series(out, asked, steps, runs, corpus, n_seeds, device, tell)
    counted = kept(out / "ngrams.json", lambda: [_ngram(order, text, corpus) for order in NGRAMS])
    return {"setting": setting, "results": results, "ngrams": counted, **findings(results)}


def _ngram(order: int, text: str | None, corpus: Corpus) -> dict[str, Any]:
    """What counting alone reaches: a byte model of the same training text on the same held-out bytes."""
    start = time.perf_counter()
    model = ngram.train("\n".join(d.text for d in documents.text(text, None)).encode(), order)
    seconds = time.perf_counter() - start
    held = ["\n".join(texts).encode() for texts in corpus.held.values()]
    bits = sum(len(h) * ngram.bits_per_byte(model, h) for h in held) / sum(map(len, held))
    return {"arm": f"byte {order}-gram", "seconds": seconds, "bpb": bits}


def findings(results: Sequence[Row]) -> dict[str, Any]:
    """Factors against each baseline by each metric, and the waterfall where its arms were trained."""
    table = shipped(__file__)
    by_arm = {name: [r for r in results if r["arm"] == name] for name in dict.fromkeys(r["arm"] for r in results)}
    sweep = [by_arm[ours(share)] for share in sorted(table["shares"])]
    baselines = [name for name in table["baselines"] if name in by_arm]
    factors = {name: {metric: factor(by_arm[name], sweep, metric) for metric in METRICS} for name in baselines}
    return {"factors": factors, "waterfall": _waterfall(table, by_arm)}


def factor(baseline: Sequence[Row], sweep: Sequence[Sequence[Row]], metric: str) -> dict[str, Any]:
    """The baseline's cost over ours at equal final bits per byte: of the means, and Student's 95 % interval of the seeds' own.

    `bound` is "=" where ours' runs stand on both sides of the baseline's quality; ">" where even the smallest is better,
    "<" where even the largest is worse: then the value is that run's own ratio.
    """
    def at(seeds: Sequence[int]) -> tuple[float, str]:
        over = lambda rows, key: mean(rows[s][key] for s in seeds)
        goal, cost = over(baseline, "bpb"), over(baseline, metric)
        points = [(math.log(over(rows, metric)), over(rows, "bpb")) for rows in sweep]
        (x0, y0), (x1, y1) = points[0], points[-1]
        if y0 <= goal:
            return cost / math.exp(x0), ">"
        if y1 > goal:
            return cost / math.exp(x1), "<"
        (x0, y0), (x1, y1) = next((a, b) for a, b in zip(points, points[1:]) if b[1] <= goal)
        return cost / math.exp(x0 + (x1 - x0) * (y0 - goal) / (y0 - y1)), "="

    n = min(len(baseline), *map(len, sweep))
    value, bound = at(range(n))
    interval = student([math.log(at([s])[0]) for s in range(n)], shipped(__file__, "truth.toml")["student"])
    low, high = map(math.exp, interval) if interval else (None, None)
    return {"value": value, "low": low, "high": high, "bound": bound, "seeds": n}


def _waterfall(table: Mapping[str, Any], by_arm: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """Each saving's gain as a factor of the budget: the difference in bits per byte over what a budget e times as large
    brings (the slope of ours' sweep around that share, or of B1), and the difference in device time."""
    at, shares = table["waterfall_share"], sorted(table["shares"])
    if ours(at, "B1") not in by_arm:
        return []
    bpb = lambda name: mean(r["bpb"] for r in by_arm[name])
    near = sorted(shares, key=lambda s: abs(math.log(s / at)))[:3]
    low, high = min(near), max(near)
    slopes = {
        "ours": (bpb(ours(low)) - bpb(ours(high))) / math.log(high / low),
        "B1": (bpb(ours(at, "B1")) - bpb("B1")) / math.log(1 / at),
    }
    rows = []
    for saving in table["savings"]:
        row: dict[str, Any] = {"saving": saving["name"]}
        for side in (side for side in SIDES if side in saving):
            of, sign = SIDES[side]
            pairs = list(zip(by_arm[f"{saving['name']}, {side}"], by_arm[ours(at, of)]))
            gaps = [sign * (changed["bpb"] - start["bpb"]) for changed, start in pairs]
            logs = [gap / slopes[of] + sign * math.log(c["seconds"] / s["seconds"]) for gap, (c, s) in zip(gaps, pairs)]
            gain, least, most = map(math.exp, (mean(logs), min(logs), max(logs)))
            known = at / shares[0] if of == "ours" else 1 / at  # by how much the smallest trained budget is smaller
            row[of] = {"bpb": mean(gaps), "gain": gain, "low": least, "high": most, "known": known,
                       "used": side in ("off", "without")}  # fmt: skip
        rows.append(row)
    return rows


def tables(found: Mapping[str, Any]) -> list[Table]:
    """The arms, the factors and the waterfall, for the terminal."""
    results = found["results"]
    names = [n for n in dict.fromkeys(r["arm"] for r in results) if not n.endswith(tuple(f", {side}" for side in SIDES))]
    rows = []
    for name in names:
        runs = [r for r in results if r["arm"] == name]
        of = lambda key, unit="", runs=runs: short(mean(r[key] for r in runs), unit)
        bits = [r["bpb"] for r in runs]
        rows.append((
            name, f"{mean(bits):.3f} ({min(bits):.3f}-{max(bits):.3f})", duration(mean(r["seconds"] for r in runs)),
            of("flops"), of("joules", "J"), of("tokens"), of("params_total"), of("state_bytes", "B"),
        ))  # fmt: skip
    for r in found.get("ngrams", []):
        rows.append((r["arm"], f"{r['bpb']:.3f}", duration(r["seconds"]), *[""] * 5))
    n = len({r["seed"] for r in results})
    source = ", ".join(sorted({r["joules_source"] for r in results}))
    note = f"Means over {n} seeds (lowest-highest); energy {source}; FLOPs executed, the optimiser's included."
    header = ("arm", "bits per byte", "device time", "FLOPs", "energy", "tokens", "parameters", "state")
    out = [Table("Side by side", header, tuple(rows), note)]
    sign = {"=": "", ">": "> ", "<": "< "}
    interval = lambda f: f" [{f['low']:.1f}, {f['high']:.1f}]" if f["low"] else ""
    cell = lambda f: f"{sign[f['bound']]}{f['value']:.1f}{interval(f) if f['bound'] == '=' else ''}"
    rows = [(name, *(cell(by[metric]) for metric in METRICS)) for name, by in found["factors"].items()]
    note = ("The baseline's cost over ours' at equal final held-out bits per byte; in brackets Student's 95 % over the seeds; "
            f"below 1 ours loses. Energy {source}: as an estimate it is time again.")  # fmt: skip
    out.append(Table("How many times cheaper", ("against", *METRICS.values()), tuple(rows), note))
    if found["waterfall"]:
        range_of = lambda g: f"{g['gain']:.2f} ({g['low']:.2f}-{g['high']:.2f})"
        amount = lambda g: f"> {g['known']:g}" if g["gain"] > g["known"] else range_of(g)
        cell = lambda g: f"{amount(g)} {'off' if g['used'] else 'on'}" if g else ""
        rows = [(row["saving"], cell(row.get("ours")), cell(row.get("B1"))) for row in found["waterfall"]]
        note = ("As factors of the budget (lowest and highest seed), 1 is no effect: off, what is lost where it is there and "
                "left out alone; on, what is gained where it is not there and put in alone.")  # fmt: skip
        out.append(Table("Where it comes from", ("saving", "in ours", "in B1"), tuple(rows), note))
    return out


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Final bits per byte against device time and FLOPs: every seed, the means, and an arrow with the factor."""
    from matplotlib.figure import Figure

    table, results = shipped(__file__), found["results"]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), ("seconds", "flops")):
        of = lambda name, metric=metric: [(r[metric], r["bpb"]) for r in results if r["arm"] == name]
        sweep = [of(ours(share)) for share in sorted(table["shares"])]
        centre = lambda points: (mean(x for x, _ in points), mean(y for _, y in points))
        for points in sweep:
            axes.plot(*zip(*points), "o", color="C0", ms=3, alpha=0.4)
        axes.plot(*zip(*map(centre, sweep)), "-o", color="C0", label="ours")
        for i, name in enumerate(table["baselines"], 1):
            x, y = centre(of(name))
            axes.plot(*zip(*of(name)), "s", color=f"C{i}", ms=3, alpha=0.4)
            axes.plot(x, y, "s", color=f"C{i}", label=name)
            f = found["factors"][name][metric]
            if f["bound"] == "=":
                axes.annotate("", (x / f["value"], y), (x, y), arrowprops={"arrowstyle": "->", "color": f"C{i}"})
                axes.text(x / math.sqrt(f["value"]), y, f"{f['value']:.1f} x", ha="center", va="bottom", color=f"C{i}")
        axes.set_xscale("log")
        axes.set_xlabel({"seconds": "device seconds", "flops": "executed FLOPs"}[metric])
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("held-out bits per byte")
    figure.axes[0].legend()
    figure.savefig(path)
