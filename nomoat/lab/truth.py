"""The truth table: each ingredient against what it stands in for, at equal device time and at equal executed FLOPs.

A pair (truth.toml) is two arms that differ in one thing; one is the reference, trained once for all pairs.  Differences
are paired by seed (equal data in equal order); where Student's 95 % interval leaves zero out, one wins.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nomoat.config import parse
from nomoat.engine.decoder import Decoder
from nomoat.files import shipped
from nomoat.lab.arms import KERNELS, Arm, Corpus, Trial, calibrate, kept, race, series, student
from nomoat.lab.compare import merged
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer
from nomoat.report.table import Table
from nomoat.run.energy import Energy
from nomoat.stages.pipeline import device_class

SAME, BETTER = 0.02, {"bpb": -1, "accuracy": 1}  # runs whose steps differ by less are one; the sign of an improvement


def run(
    out: Path, seconds: float, n_seeds: int, *, text: str | None = None, device: str = "cpu",
    table: Mapping[str, Any] | None = None, tell: Callable[[str, float], None] = lambda what, share: None,
) -> dict[str, Any]:  # fmt: skip
    """Trains what `out` does not hold yet and gives the whole table; `seconds` is one arm's device time."""
    table = table or shipped(__file__)
    rows = [merged(table["reference"], change) for change in ({}, *(p.get("of") or p["against"] for p in table["pairs"]))]
    arms = {row["name"]: parse(Arm, row, row["name"]) for row in rows}
    corpus = replace(Corpus.make(out / "corpus", text=text, tasks=table["learn"], **table["corpus"]), tasks=table["judge"])

    def steps() -> dict[str, dict[str, int]]:
        """Of each arm at equal time, and at the FLOPs that the reference executes in that time."""
        by_time = calibrate([arm for arm in arms.values() if arm.precision != "fp8"], corpus, seconds, device)  # it's emulated
        energy = Energy(device_class(torch.device(device)))
        trials = [Trial(arm, corpus, 0, 10, energy, device) for arm in arms.values()]
        before = {t.arm.name: t.flops for t in trials}  # of first weights from counts
        race(trials)
        each = {t.arm.name: (t.flops - before[t.arm.name]) / t.steps for t in trials}
        budget = by_time[rows[0]["name"]] * each[rows[0]["name"]]
        by_flops = {name: max(1, round((budget - before[name]) / each[name])) for name in arms}
        return {"time": by_time, "FLOPs": by_flops | {k: n for k, n in by_time.items() if abs(by_flops[k] / n - 1) < SAME}}

    asked = {"seconds": seconds, "text": text, "device": device, "table": table}
    runs = lambda steps: [(arms[k], n) for k, n in sorted({pair for by in steps.values() for pair in by.items()})]
    setting, results = series(out, asked, steps, runs, corpus, n_seeds, device, tell)
    found = {"setting": setting, "results": results, "rows": findings(table, setting["steps"], results)}
    speeds = kept(out / "decoding.json", lambda: decoding(table, corpus.tokenizer.vocab_size, device))
    return {**found, "decoding": speeds}


def findings(table: Mapping[str, Any], steps: Mapping[str, Any], results: Sequence[Mapping]) -> list[dict[str, Any]]:
    """A row for each pair and what is equal: ratios of cost, and paired differences, the first arm less the second."""
    rows = []
    for pair in table["pairs"]:
        names = [pair.get(side, table["reference"])["name"] for side in ("of", "against")]
        for equal, n in ((equal, n) for equal, n in steps.items() if set(names) <= set(n)):
            both = list(zip(*([r for r in results if (r["arm"], r["steps"]) == (a, n[a])] for a in names), strict=True))
            costs = {cost: statistics.mean(a[cost] / b[cost] for a, b in both) for cost in ("seconds", "flops")}
            gains = {k: difference([(a[k], b[k]) for a, b in both], sign, table["student"]) for k, sign in BETTER.items()}
            rows.append({"question": pair["question"], "equal": equal, "arms": names, "seeds": len(both), **costs, **gains})
    return rows


def difference(pairs: Sequence[tuple[float, float]], better: int, quantiles: Sequence[float]) -> dict[str, Any]:
    """Means of both sides, of their difference, its 95 % interval (None for one seed) and the verdict."""
    gaps = [a - b for a, b in pairs]
    of, against, middle = *map(statistics.mean, zip(*pairs)), statistics.mean(gaps)
    low, high = student(gaps, quantiles) or (None, None)
    verdict = "not shown to differ" if low is None or low <= 0 <= high else "wins" if middle * better > 0 else "loses"
    return {"of": of, "against": against, "difference": middle, "low": low, "high": high, "verdict": verdict}


@torch.inference_mode()
def decoding(table: Mapping[str, Any], vocab_size: int, device: str) -> list[dict[str, Any]]:
    """Bytes of cache a token in bf16, and new tokens/s of the sampler's decoder: median and range of rounds in turn."""
    decode, rows = table["decode"], []
    base, n_new = merged(table["reference"]["model"], decode["shape"], {"vocab_size": vocab_size}), decode["new_tokens"]
    specs = {name: parse(Spec, merged(base, change), name) for name, change in decode["models"].items()}
    models = {name: Transformer(spec, KERNELS).initialise(0).to(device, torch.bfloat16) for name, spec in specs.items()}
    for load in decode["loads"]:
        rates: dict[str, list[float]] = {name: [] for name in models}
        ids_B = torch.arange(load["rows"], device=device) % vocab_size
        for name, model in list(models.items()) * decode["rounds"]:
            decoder = Decoder(model)
            decoder.prefill([[i] * load["prompt"] for i in ids_B.tolist()], n_new, 0)
            start = time.perf_counter()
            for _ in range(n_new):
                ids_B = decoder.step(ids_B).argmax(-1)
            rates[name].append(len(ids_B.tolist()) * n_new / (time.perf_counter() - start))  # tolist waits for a device
        for (name, r), spec in zip(rates.items(), specs.values()):
            speed = {"tokens_per_second": statistics.median(r), "low": min(r), "high": max(r)}
            rows.append({"model": name, **load, "cache_bytes": 2 * spec.n_layers * sum(spec.attention.d_cached), **speed})
    return rows


def tables(found: Mapping[str, Any]) -> list[Table]:
    """The truth table and the table of decoding, as they are printed."""
    def cells(gain: Mapping, unit: float, digits: int) -> tuple[str, ...]:
        middle, *ends = (f"{gain[k] * unit:+.{digits}f}" for k in ("difference", "low", "high") if gain[k] is not None)
        sides = (f"{gain[k] * unit:.{digits}f}" for k in ("of", "against"))
        return *sides, middle + (f" [{', '.join(ends)}]" if ends else ""), gain["verdict"]
    header = ("question", "equal", "time", "FLOPs", "bpb", "other", "difference", "text", "right", "other", "points", "tasks")
    rows = [(r["question"], r["equal"], f"{r['seconds']:.2f}", f"{r['flops']:.2f}", *cells(r["bpb"], 1, 4),
             *cells(r["accuracy"], 100, 1)) for r in found["rows"]]  # fmt: skip
    note = f"{found['rows'][0]['seeds']} seeds; time and FLOPs: the first over the second; differences: less the second"
    speeds = [(r["model"], f"{r['rows']}", f"{r['prompt']}", f"{r['cache_bytes']:,}", f"{r['tokens_per_second']:,.0f}",
               f"{r['low']:,.0f} to {r['high']:,.0f}") for r in found["decoding"]]  # fmt: skip
    return [Table("", header, tuple(rows), note, words=("equal", "text", "tasks")),
            Table("", ("attention", "rows", "prompt", "cache B/token", "tokens/s", "range"), tuple(speeds))]  # fmt: skip
