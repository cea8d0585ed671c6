"""The truth table: each ingredient against what it stands in for, at equal device time and at equal executed
FLOPs.

A pair (truth.toml) is two arms that differ in one thing; one is the reference, trained once for all pairs.
Differences are paired by seed (equal data in equal order); where Student's 95 % interval leaves zero out, one
wins.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from nomoat.config import parse
from nomoat.engine.engine import Engine, Limits
from nomoat.engine.request import Request, Sampling
from nomoat.files import shipped
from nomoat.lab.arms import KERNELS, Arm, Trial, calibrate, race, trained
from nomoat.lab.corpus import Corpus
from nomoat.lab.series import Json, Runs, Series, kept, merged, meter, student
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer
from nomoat.report.table import Table

SAME = 0.02  # runs whose steps differ by less are one
BETTER = {"bpb": -1, "accuracy": 1}  # the sign of an improvement
PROBE_STEPS = 10


def run(series: Series, table: Json | None = None) -> Json:
    """Trains what the folder does not hold yet and gives the whole table; the time of a series is one
    arm's."""
    table = table or shipped(__file__)
    arms = arms_of(table)
    learned = Corpus.make(series.out / "corpus", text=series.text, tasks=table["learn"], **table["corpus"])
    corpus = replace(learned, tasks=table["judge"])
    setting = series.setting(partial(steps_of, arms, corpus, series.seconds), device="cpu", table=table)
    runs = {(name, n_steps) for by_name in setting["steps"].values() for name, n_steps in by_name.items()}
    runs = [(arms[name], n_steps) for name, n_steps in sorted(runs)]
    results = series.results(partial(trained, series, corpus, runs))
    vocab_size = corpus.tokenizer.vocab_size
    return {
        "setting": setting,
        "results": results,
        "rows": findings(table, setting["steps"], results),
        "decoding": kept(series.out / "decoding.json", partial(decoding, table, vocab_size)),
    }


def arms_of(table: Json) -> dict[str, Arm]:
    """The reference first, then the other arm of each pair."""
    changes = [{}, *(pair.get("of") or pair["against"] for pair in table["pairs"])]
    rows = [merged(table["reference"], change) for change in changes]
    return {row["name"]: parse(Arm, row, row["name"]) for row in rows}


def steps_of(arms: Mapping[str, Arm], corpus: Corpus, seconds: float) -> dict[str, dict[str, int]]:
    """Of each arm at equal time, and at the FLOPs that the reference executes in that time; FP8 is
    emulated."""
    timed = [arm for arm in arms.values() if arm.precision != "fp8"]
    by_time = calibrate(timed, corpus, seconds)
    by_flops = {}
    budget = None
    for name, arm in arms.items():  # the reference first
        trial = Trial(arm, corpus, 0, PROBE_STEPS, meter())
        start = trial.flops  # of first weights from counts
        race([trial])
        step = (trial.flops - start) / trial.steps
        budget = budget or by_time[name] * step
        n_steps = max(1, round((budget - start) / step))
        timed_steps = by_time.get(name, n_steps)
        same = abs(n_steps / timed_steps - 1) < SAME
        by_flops[name] = timed_steps if same else n_steps
    return {"time": by_time, "FLOPs": by_flops}


def findings(table: Json, steps: Json, results: Runs) -> list[Json]:
    """A row for each pair and what is equal: ratios of cost, and paired differences, the first less the
    second."""
    rows = []
    for pair in table["pairs"]:
        names = [pair.get(side, table["reference"])["name"] for side in ("of", "against")]
        for equal, n_steps in steps.items():
            if set(names) <= set(n_steps):
                sides = [
                    [r for r in results if (r["arm"], r["steps"]) == (name, n_steps[name])] for name in names
                ]
                row = {"question": pair["question"], "equal": equal, "arms": names}
                rows.append(row | compared(*sides))
    return rows


def compared(of: Runs, against: Runs) -> Json:
    pairs = list(zip(of, against, strict=True))

    def ratio(cost: str) -> float:
        return statistics.mean(one[cost] / other[cost] for one, other in pairs)

    row = {"seeds": len(pairs), "seconds": ratio("seconds"), "flops": ratio("flops")}
    for score, better in BETTER.items():
        row[score] = difference([(one[score], other[score]) for one, other in pairs], better)
    return row


def difference(pairs: Sequence[tuple[float, float]], better: int) -> Json:
    """Means of both sides, of their difference, its 95 % interval (None for one seed) and the verdict."""
    gaps = [of - against for of, against in pairs]
    middle = statistics.mean(gaps)
    low, high = student(gaps) or (None, None)
    verdict = "wins" if middle * better > 0 else "loses"
    if low is None or low <= 0 <= high:
        verdict = "not shown to differ"
    return {
        "of": statistics.mean(of for of, _ in pairs),
        "against": statistics.mean(against for _, against in pairs),
        "difference": middle,
        "low": low,
        "high": high,
        "verdict": verdict,
    }


def decoding(table: Json, vocab_size: int) -> list[Json]:
    """Bytes of cache a token in bf16, and new tokens/s of the sampler's decoder: median and range of rounds
    in turn."""
    decode = table["decode"]
    base = merged(table["reference"]["model"], decode["shape"], {"vocab_size": vocab_size})
    models = {}
    for name, change in decode["models"].items():
        spec = parse(Spec, merged(base, change), name)
        models[name] = Transformer(spec, KERNELS).initialise(0).to(torch.bfloat16)
    rows = []
    for load in decode["loads"]:
        rates = {name: [] for name in models}
        for _ in range(decode["rounds"]):
            for name, model in models.items():
                rates[name].append(decode_rate(model, load["rows"], load["prompt"], decode["new_tokens"]))
        for name, model in models.items():
            rows.append(
                {
                    "model": name,
                    **load,
                    "cache_bytes": 2 * model.spec.n_layers * sum(model.spec.attention.d_cached),
                    "tokens_per_second": statistics.median(rates[name]),
                    "low": min(rates[name]),
                    "high": max(rates[name]),
                }
            )
    return rows


@torch.inference_mode()
def decode_rate(model: Transformer, n_rows: int, n_prompt: int, n_new: int) -> float:
    """Tokens a second, after the prompts."""
    engine = Engine(model, Limits(rows=n_rows, step_tokens=n_rows * n_prompt))
    for i in range(n_rows):
        prompt = [i % model.spec.vocab_size] * n_prompt
        engine.submit(Request(prompt, n_new + 1, sampling=Sampling(temperature=0.0)))
    engine.step()
    start = time.perf_counter()
    while engine.busy:
        engine.step()
    return n_rows * n_new / (time.perf_counter() - start)


def tables(truth: Json) -> list[Table]:
    """The truth table and the table of decoding, as they are printed."""
    bits = ("bpb", "other", "difference", "text")
    points = ("right", "other", "points", "tasks")
    n_seeds = truth["rows"][0]["seeds"]
    note = f"{n_seeds} seeds; time and FLOPs: the first over the second; differences: less the second"
    header = ("question", "equal", "time", "FLOPs", *bits, *points)
    rows = list(map(row_cells, truth["rows"]))
    speeds = list(map(decoding_cells, truth["decoding"]))
    words = ("equal", "text", "tasks")
    columns = ("attention", "rows", "prompt", "cache B/token", "tokens/s", "range")
    return [Table("", header, rows, note, words=words), Table("", columns, speeds)]


def row_cells(row: Json) -> tuple[str, ...]:
    costs = (f"{row['seconds']:.2f}", f"{row['flops']:.2f}")
    bits, points = gain_cells(row["bpb"], 1, 4), gain_cells(row["accuracy"], 100, 1)
    return (row["question"], row["equal"], *costs, *bits, *points)


def gain_cells(gain: Json, unit: float, digits: int) -> tuple[str, ...]:
    def figure(key: str, sign: str = "+") -> str:
        return f"{gain[key] * unit:{sign}.{digits}f}"

    difference = figure("difference")
    if gain["low"] is not None:
        difference += f" [{figure('low')}, {figure('high')}]"
    return (
        figure("of", ""),
        figure("against", ""),
        difference,
        gain["verdict"],
    )


def decoding_cells(row: Json) -> tuple[str, ...]:
    return (
        row["model"],
        f"{row['rows']}",
        f"{row['prompt']}",
        f"{row['cache_bytes']:,}",
        f"{row['tokens_per_second']:,.0f}",
        f"{row['low']:,.0f} to {row['high']:,.0f}",
    )
