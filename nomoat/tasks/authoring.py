"""Behind `nomoat task new | check`: a first file, what is wrong with it, and what its checker takes."""

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType

from nomoat.config import TaskError
from nomoat.files import writing
from nomoat.tasks import base, contract, exact, find
from nomoat.tasks.base import Problem, Task

N_SAMPLES, N_SHOWN = 24, 5
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
    """(complaints, text for a person) with five problems, their chains, what the checker says and why."""
    task = find.find(str(name))
    samples = sampled(task)
    if isinstance(task, ModuleType):
        complaints = contract.contract(task)
    else:
        complaints = list(dict.fromkeys(screened(task, samples)))
    levels = ", ".join(map(str, task.levels))
    lines = [f"{base.short(task)}: levels {levels}"]
    if hasattr(task, "listed"):
        left = base.left(task)
        lines.append(f"split: {left}")
        if not task.listed["eval"]:
            complaints.insert(0, f"no problem {base.SIDES['eval']}: {left}")
    for problem, other in spread(samples):
        lines += shown(task, problem, other)
    summary = [f"wrong: {complaint}" for complaint in complaints[:MAX_COMPLAINTS]] or [CHECKED]
    return complaints, "\n".join([*lines, "", *getattr(task, "notes", []), *summary])


def spread(samples: list[Problem]) -> list[tuple[Problem, Problem]]:
    """The N_SHOWN problems that are shown, each with another."""
    pairs = {problem.prompt: (problem, other) for problem, other in itertools.pairwise(samples)}
    apart = max(1, len(pairs) // N_SHOWN)
    return list(pairs.values())[::apart][:N_SHOWN]


def sampled(task: Task) -> list[Problem]:
    """Problems of every level, the easy ones first."""
    n_levels = len(task.levels)
    return [
        task.make(base.Rng(f"check/{i}"), task.levels[i * n_levels // N_SAMPLES]) for i in range(N_SAMPLES)
    ]


def shown(task: Task, problem: Problem, other: Problem) -> Iterator[str]:
    yield ""
    yield f"  prompt   {problem.prompt!r}"
    yield f"  chain    {task.work(problem)!r}"
    rule = getattr(task, "rule", None)
    others = task.near_misses(problem)[:4]
    if not isinstance(task, ModuleType):
        others = tried(problem, other)
    for text in dict.fromkeys([problem.witness.strip(), *others]):
        got = contract.verdict(task.check, problem, handed(task, problem, text))
        verb = contract.says(got)
        line = f"  {verb:<8} {text[:100]!r}"
        yield f"{line}  ({rule(problem, text)})" if rule else line


def handed(task: Task, problem: Problem, text: str) -> str:
    """What is judged where a model answers with the text: that, or the whole reply with it."""
    if not hasattr(task, "dressed"):
        return text
    return task.dressed(dataclasses.replace(problem, witness=text))


def tried(problem: Problem, other: Problem) -> Iterator[str]:
    """The right answer in other forms and dressings, with and without its unit, and wrong ones."""
    right = problem.witness.strip()
    if "\n" in right:
        yield from (other.witness, "?")
        return
    units = problem.facts.get("units") or {}
    value, unit = (part.strip() for part in re.fullmatch(r"(.*?)([^\d\s()\[\]{}\"']*)", right).groups())
    number = exact.number(value)
    if value and unit:
        yield from (f"{value} {unit}", f"{value}{unit}", value)
    for name in units:
        if number is not None and unit in units and name != unit:
            worth = number * Fraction(str(units[unit])) / Fraction(str(units[name]))
            yield from (f"{text} {name}" for text in decimal(worth, "g"))
    if number is not None:
        yield from (str(number), *decimal(number), str(number + 1))
    yield from (f"$\\boxed{{{right}}}$", f"**{right}**", f"The answer is {right}.", f"not {right}")
    yield other.witness.strip()


def decimal(number: Fraction, form: str = "") -> Iterator[str]:
    """The number with a decimal point; nothing of one that is too large for a float."""
    with contextlib.suppress(OverflowError):
        yield format(float(number), form)


def screened(task: Task, samples: list[Problem]) -> Iterator[str]:
    """What a task from elsewhere gets wrong: its own answers, those of others, the right one dressed up."""
    first = samples[0].witness.strip()
    wrong = [text for text in contract.dressed(first) if exact.number(text) is None]
    if samples[0].facts.get("inputs"):
        wrong.remove(f"{first}\n{first}")  # a program that is said twice does the same
    takes_more = getattr(task, "lenient", False) or hasattr(task, "dressed")
    if takes_more:
        wrong = []  # it takes the right answer in any words, or sees whole replies
    for problem, other in itertools.pairwise(samples):
        if not exact.equal(problem.witness, other.witness):
            wrong.append(handed(task, problem, other.witness))
        right = handed(task, problem, problem.witness.strip())
        for fault in contract.misjudged(task.check, problem, wrong, right):
            yield f"{fault} {problem.prompt[:60]!r}"
        wrong = []
