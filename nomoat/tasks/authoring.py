"""What stands behind `nomoat task new | check | audit`: a first file, what is wrong with it, how well answers are compared."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from nomoat.tasks import base, contract, exact, find


def new(path: str | Path) -> str:
    """Writes a task file that works, and says what to do with it; never over another file."""
    path = Path(path)
    if path.suffix != ".py":
        raise base.TaskError(f"{path} is no name for a task; expected one that ends in .py; rename it")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(Path(__file__).with_name("template.txt").read_text("utf-8"))
    except OSError as error:
        raise base.TaskError(f"{path}: {error.strerror}; expected the name of a new file; choose another") from None
    return f"{path} is a task that works; make it yours, then: nomoat task check {path}"


def check(name: str | Path) -> tuple[list[str], str]:
    """(complaints, text for a person) with three problems, their chains, and what the checker says to whom."""
    task = find.find(str(name))
    samples = [task.make(base.Rng(f"check/{i}"), task.levels[i * len(task.levels) // 24]) for i in range(24)]
    complaints = contract.contract(task) if isinstance(task, ModuleType) else screened(task, samples)
    lines = [f"{base.short(task)}: levels {', '.join(map(str, task.levels))}"]
    for problem in samples[::11]:
        lines += ["", f"  prompt   {problem.prompt!r}", f"  chain    {task.work(problem)!r}"]
        for text in (problem.witness.strip(), *task.near_misses(problem)[:4]):
            lines.append(f"  {contract.says(contract.verdict(task, problem, text)):<8} {text[:100]!r}")
    kept = "checked: witness, near misses, other problems' answers, hostile answers, time, splits, languages, other processes"
    lines += ["", *(f"wrong: {complaint}" for complaint in complaints[:20]), *([] if complaints else [kept])]
    return complaints, "\n".join(lines)


def screened(task: Any, samples: list[base.Problem]) -> list[str]:
    """What a task from elsewhere gets wrong: its own answers, those of other problems, and the right one dressed up."""
    found = {}
    for p, q in itertools.pairwise(samples):
        dressed = contract.hostile(p.witness)[len(contract.HOSTILE) :] if p is samples[0] else []
        wrong = [t for t in dressed if exact.number(t) is None] + [q.witness] * (not exact.equal(p.witness, q.witness))
        for text, want in ((p.witness.strip(), True), *((text, False) for text in wrong)):
            if (got := contract.verdict(task, p, text)) is not want:
                found[f"{contract.says(got)} {text[:60]!r} for {p.prompt[:60]!r}"] = None
    return list(found)


@dataclass(frozen=True)
class Audit:
    """How the exact comparison judges the labelled answers: (errors, answers) for each, and the lines it gets wrong."""

    accepted: tuple[int, int]  # of the wrong answers
    rejected: tuple[int, int]  # of the right ones
    errors: list[dict[str, Any]]

    def text(self, interval: Callable[[int, int], tuple[float, float]]) -> str:
        """Rates with their interval, as `nomoat.stats.wilson` gives it, and each error."""
        lines = []
        for what, (k, n) in (("wrong answers accepted", self.accepted), ("right answers rejected", self.rejected)):
            lines.append(f"{what}: {k} of {n}, {k / n:.2%} (95 %: {{:.2%}} to {{:.2%}})".format(*interval(k, n)))
        return "\n".join([*lines, *(f"  {json.dumps(row, ensure_ascii=True)}" for row in self.errors)])


def audit() -> Audit:
    """The exact comparison against answers.jsonl, which is labelled by what the answers mean."""
    rows = [json.loads(line) for line in Path(__file__).with_name("answers.jsonl").read_text("utf-8").splitlines()]
    judged = [exact.equal(r["answer"], r["expected"], units=r.get("units"), lang=r.get("lang", "en")) for r in rows]
    errors = [row for row, said in zip(rows, judged) if said is not row["equal"]]
    right = sum(row["equal"] for row in rows)
    missed = sum(row["equal"] for row in errors)
    return Audit((len(errors) - missed, len(rows) - right), (missed, right), errors)
