"""Behind `nomoat task new | check | audit`: a first file, what is wrong with it, how well answers compare."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from nomoat.config import JsonObject, TaskError
from nomoat.files import writing
from nomoat.stats import wilson
from nomoat.tasks import base, contract, exact, find
from nomoat.tasks.base import Problem, Task

N_SAMPLES, SHOWN_EVERY = 24, 11
MAX_COMPLAINTS = 20
CHECKED = (
    "checked: witness, near misses, other problems' answers, hostile answers, time, splits, languages, "
    "other processes"
)


def new(path: str | Path) -> str:
    """Writes a task file that works, and says what to do with it; never over another file."""
    path = Path(path)
    if path.suffix != ".py":
        raise TaskError(f"{path} is no name for a task; expected one that ends in .py; rename it")
    try:
        file = path.open("x", encoding="utf-8")
    except OSError as error:
        raise TaskError(
            f"{path}: {error.strerror}; expected the name of a new file; choose another"
        ) from None
    with writing(path, path), file:
        file.write(Path(__file__).with_name("template.txt").read_text("utf-8"))
    return f"{path} is a task that works; make it yours, then: nomoat task check {path}"


def check(name: str | Path) -> tuple[list[str], str]:
    """(complaints, text for a person) with three problems, their chains, and what the checker says."""
    task = find.find(str(name))
    samples = sampled(task)
    if isinstance(task, ModuleType):
        complaints = contract.contract(task)
    else:
        complaints = list(dict.fromkeys(screened(task, samples)))
    lines = [f"{base.short(task)}: levels {', '.join(map(str, task.levels))}"]
    for problem in samples[::SHOWN_EVERY]:
        lines += shown(task, problem)
    summary = [f"wrong: {complaint}" for complaint in complaints[:MAX_COMPLAINTS]] or [CHECKED]
    return complaints, "\n".join([*lines, "", *summary])


def sampled(task: Task) -> list[Problem]:
    """Problems of every level, the easy ones first."""
    n_levels = len(task.levels)
    return [
        task.make(base.Rng(f"check/{i}"), task.levels[i * n_levels // N_SAMPLES]) for i in range(N_SAMPLES)
    ]


def shown(task: Task, problem: Problem) -> Iterator[str]:
    yield from ("", f"  prompt   {problem.prompt!r}", f"  chain    {task.work(problem)!r}")
    for text in (problem.witness.strip(), *task.near_misses(problem)[:4]):
        verb = contract.says(contract.verdict(task.check, problem, text))
        yield f"  {verb:<8} {text[:100]!r}"


def screened(task: Task, samples: list[Problem]) -> Iterator[str]:
    """What a task from elsewhere gets wrong: its own answers, those of others, the right one dressed up."""
    dressed = contract.dressed(samples[0].witness)
    wrong = [text for text in dressed if exact.number(text) is None]
    for problem, other in itertools.pairwise(samples):
        if not exact.equal(problem.witness, other.witness):
            wrong.append(other.witness)
        faults = contract.misjudged(task.check, problem, wrong)
        yield from (f"{fault} {problem.prompt[:60]!r}" for fault in faults)
        wrong = []


@dataclass(frozen=True)
class Audit:
    """How the exact comparison judges the labelled answers: (errors, answers) of each, and the errors."""

    accepted: tuple[int, int]  # of the wrong answers
    rejected: tuple[int, int]  # of the right ones
    errors: list[JsonObject]

    def text(self) -> str:
        """Rates with their 95 % interval, and each error."""
        lines = []
        for what, (k, n) in (
            ("wrong answers accepted", self.accepted),
            ("right answers rejected", self.rejected),
        ):
            low, high = wilson(k, n)
            lines.append(f"{what}: {k} of {n}, {k / n:.2%} (95 %: {low:.2%} to {high:.2%})")
        lines += [f"  {json.dumps(row)}" for row in self.errors]
        return "\n".join(lines)


def audit() -> Audit:
    """The exact comparison against answers.jsonl, which is labelled by what the answers mean."""
    file = Path(__file__).with_name("answers.jsonl")
    lines = file.read_text("utf-8").splitlines()
    rows = list(map(json.loads, lines))
    errors = [row for row in rows if is_equal(row) is not row["equal"]]
    right = sum(row["equal"] for row in rows)
    rejected = sum(row["equal"] for row in errors)
    accepted = len(errors) - rejected
    return Audit((accepted, len(rows) - right), (rejected, right), errors)


def is_equal(row: JsonObject) -> bool:
    return exact.equal(row["answer"], row["expected"], units=row.get("units"), lang=row.get("lang", "en"))
