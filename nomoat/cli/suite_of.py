"""`nomoat eval MODEL --suite standard`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nomoat.cli import say

if TYPE_CHECKING:
    from nomoat.evals.benchmarks import Benchmark, Item
    from nomoat.evals.suites import Score
    from nomoat.report.table import Table

TELL = 10  # times of a benchmark


@dataclass(frozen=True, slots=True)
class Asked:
    """Which benchmarks, how many of their items, and how."""

    names: tuple[str, ...]
    limit: int | None
    few_shot: bool
    out: Path | None
    plan: bool
    json: bool


def evaluate(source: str, asked: Asked) -> int:
    """Each benchmark's score with its interval; with `plan` what would be asked."""
    from nomoat.evals import benchmarks

    table = benchmarks.named(asked.names)
    root = benchmarks.located(say.aside)
    items = {}
    for name, benchmark in table.items():
        read, left = benchmark.items(root)
        if left:
            say.aside(f"{name}: {left} of {left + len(read)} can't be judged here and are left out")
        items[name] = read[: asked.limit]
    if asked.plan:
        return _planned(asked, table, items)
    scores = list(_scores(source, asked, table, items))
    if asked.json:
        return say.as_json({"model": source, "scores": scores})
    return say.tables([_table(source, asked, table, scores)])


def _planned(asked: Asked, table: "Mapping[str, Benchmark]", items: "Mapping[str, list[Item]]") -> int:
    from nomoat.report.table import Table

    rows = []
    for name, benchmark in table.items():
        how = "text" if benchmark.ends else "choices"
        shots = benchmark.shots if asked.few_shot else 0
        rows.append((name, how, str(len(items[name])), str(shots)))
    return say.tables([Table("What would be asked", ("benchmark", "judged by", "items", "shots"), rows)])


def _scores(
    source: str, asked: Asked, table: "Mapping[str, Benchmark]", items: "Mapping[str, list[Item]]"
) -> "Iterable[Score]":
    from nomoat.evals import suites
    from nomoat.parallel.contention import Polite
    from nomoat.serve import loading

    loaded = loading.load(source, say=say.aside)
    say.speed()
    examinee = suites.Examinee(loaded.model, loaded.tokenizer, asked.few_shot)
    what = {"model": suites.fingerprint(loaded.model), "shots": "few" if asked.few_shot else "zero"}
    kept = suites.Kept(asked.out, what)
    with Polite():
        for name, benchmark in table.items():
            n = len(items[name])

            def tell(done: int, name: str = name, n: int = n) -> None:
                if done % max(n // TELL, 20) == 0 or done == n:
                    say.aside(f"{name}: {done} of {n}")

            yield suites.examine(examinee, name, benchmark, items[name], kept, tell)
    if examinee.undecided:
        say.aside(f"{examinee.undecided} programs could not be run and count as wrong: no sandbox here")


def _table(
    source: str, asked: Asked, table: "Mapping[str, Benchmark]", scores: "Iterable[Score]"
) -> "Table":
    from nomoat.report.table import Table

    rows = []
    for score in scores:
        cut = f"{score.cut} of {score.n}" if score.cut else ""
        counts = str(score.n), str(score.shots)
        rows.append((score.benchmark, *counts, str(score.strict), str(score.lenient), cut))
    return Table(
        f"{source} in others' benchmarks, % right [95 % interval]",
        ("benchmark", "items", "shots", "strict", "lenient", "cut"),
        rows,
        note="Choices: strict is the likeliest, lenient the likeliest a character. Texts: strict demands the "
        "form that was shown. Cut: the context's beginning had no room.",
    )
