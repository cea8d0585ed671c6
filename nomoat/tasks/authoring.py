"""Behind `nomoat task new | check`: a first file, what is wrong with it, and what its checker takes."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from nomoat.config import TaskError
from nomoat.files import writing
from nomoat.tasks import base, contract, exact, find
from nomoat.tasks.base import Problem, Task

N_SAMPLES, N_SHOWN = 24, 5
N_TRIED = 12  # answers that are shown with what the checker says of them
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
    lines = [f"{base.short(task)}: levels {', '.join(map(str, task.levels))}"]
    for problem, other in list(itertools.pairwise(samples))[:: N_SAMPLES // N_SHOWN][:N_SHOWN]:
        lines += shown(task, problem, other)
    lines += ["", *getattr(task, "notes", [])]
    summary = [f"wrong: {complaint}" for complaint in complaints[:MAX_COMPLAINTS]] or [CHECKED]
    return complaints, "\n".join([*lines, "", *summary])


def sampled(task: Task) -> list[Problem]:
    """Problems of every level, the easy ones first."""
    n_levels = len(task.levels)
    return [
        task.make(base.Rng(f"check/{i}"), task.levels[i * n_levels // N_SAMPLES]) for i in range(N_SAMPLES)
    ]


def shown(task: Task, problem: Problem, other: Problem) -> Iterator[str]:
    yield from ("", f"  prompt   {problem.prompt!r}", f"  chain    {task.work(problem)!r}")
    foreign = not isinstance(task, ModuleType)
    misses = tried(problem, other) if foreign else task.near_misses(problem)[:4]
    rule = getattr(task, "rule", None)
    for text in dict.fromkeys([problem.witness.strip(), *misses][:N_TRIED]):
        verb = contract.says(contract.verdict(task.check, problem, text))
        yield f"  {verb:<8} {text[:100]!r}{f'  ({rule(problem, text)})' if rule else ''}"


def tried(problem: Problem, other: Problem) -> Iterator[str]:
    """The right answer in dressings and forms, with and without its unit, and wrong ones."""
    right, units = problem.witness.strip(), problem.facts.get("units") or {}
    if "\n" in right:
        yield from (other.witness, "?")
        return
    value, unit = re.fullmatch(r"(.*?)([^\d\s]*)", right).groups()
    if value.strip() and unit and right != value:
        yield from (f"{value.strip()} {unit}", f"{value.strip()}{unit}", value.strip())
    if (number := exact.number(value)) is not None:
        yield from (f"{value.strip()} {name}" for name in units if name != unit)
        yield from (str(number), str(float(number)), str(number + 1))
    yield from (f"$\\boxed{{{right}}}$", f"**{right}**", f"The answer is {right}.", f"not {right}")
    yield other.witness.strip()


def screened(task: Task, samples: list[Problem]) -> Iterator[str]:
    """What a task from elsewhere gets wrong: its own answers, those of others, the right one dressed up."""
    dressed = contract.dressed(samples[0].witness)
    wrong = [text for text in dressed if exact.number(text) is None]
    if getattr(task, "lenient", False):
        wrong = []  # it takes the right answer in any words
    for problem, other in itertools.pairwise(samples):
        if not exact.equal(problem.witness, other.witness):
            wrong.append(other.witness)
        faults = contract.misjudged(task.check, problem, wrong)
        yield from (f"{fault} {problem.prompt[:60]!r}" for fault in faults)
        wrong = []
