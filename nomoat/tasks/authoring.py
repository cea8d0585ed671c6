"""Behind `nomoat task new | check`: a first file, what is wrong with it, and what its checker takes."""

import contextlib
import dataclasses
import itertools
import re
import shlex
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType

from nomoat.config import TaskError
from nomoat.files import writing
from nomoat.stats import grouped
from nomoat.tasks import base, contract, exact, find
from nomoat.tasks.base import Problem, Task

N_SAMPLES, N_SHOWN = 24, 5
MAX_COMPLAINTS = 8  # of one level
DRAWS, FEW = 600, 200  # problems of a level that are counted, and so many different ones as are few
N_MISSES = 4
TEACH = "nomoat teach smollm2 --task"
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
    return f"{path} is a task that works; make it yours, then: nomoat task check {shlex.quote(str(path))}"


def check(name: str | Path) -> tuple[list[str], str]:
    """(complaints, text for a person) with five problems, their chains, what the checker says and why."""
    task = find.find(str(name))
    samples = sampled(task)
    if isinstance(task, ModuleType):
        complaints = contract.contract(task, processes=3)
    else:
        complaints = list(dict.fromkeys(screened(task, [problem for _, problem in samples])))
    levels = ", ".join(map(str, task.levels))
    lines = [f"{base.short(task)}: levels {levels}"]
    if hasattr(task, "listed"):
        left = base.left(task)
        lines.append(f"split: {left}")
        if not task.listed["eval"]:
            complaints.insert(0, f"no problem {base.SIDES['eval']}: {left}")
    for level, problem, other in spread(samples):
        lines.append("")
        if len(task.levels) > 1:
            lines.append(f"level {level}")
        lines += shown(task, problem, other)
    scarce = few(task) if isinstance(task, ModuleType) else ()
    lines += ["", *scarce, *getattr(task, "notes", []), *summed(complaints)]
    if not complaints:
        lines.append(f"the contract is kept; next: {TEACH} {shlex.quote(str(name))}")
    return complaints, "\n".join(lines)


def summed(complaints: list[str]) -> Iterator[str]:
    """The first complaints of each level, and how many more there are; or what was checked."""
    levels = grouped((complaint.partition(":")[0], complaint) for complaint in complaints)
    for level, of_level in levels.items():
        yield from (f"wrong: {complaint}" for complaint in of_level[:MAX_COMPLAINTS])
        if len(of_level) > MAX_COMPLAINTS:
            yield f"wrong: and {len(of_level) - MAX_COMPLAINTS} more of {level}"
    if not complaints:
        yield CHECKED


def few(task: Task) -> Iterator[str]:
    """The levels that have too few problems to measure a model well."""
    for level in task.levels:
        keys = {task.make(base.Rng(f"few/{level}/{i}"), level).key for i in range(DRAWS)}
        if len(keys) < FEW:
            yield (
                f"few: level {level} has some {len(keys)} problems, of which 1 in 16 is held out: "
                "what is measured there says little; widen what `make` draws"
            )


def spread(samples: list[tuple[int, Problem]]) -> list[tuple[int, Problem, Problem]]:
    """The N_SHOWN problems that are shown, of easy and hard levels, each with its level and another."""
    pairs = {first[1].prompt: (*first, other) for first, (_, other) in itertools.pairwise(samples)}
    places = {round(i * (len(pairs) - 1) / (N_SHOWN - 1)) for i in range(N_SHOWN)}
    return [pair for i, pair in enumerate(pairs.values()) if i in places]


def sampled(task: Task) -> list[tuple[int, Problem]]:
    """Problems of every level, with it, the easy ones first."""
    levels = [task.levels[i * len(task.levels) // N_SAMPLES] for i in range(N_SAMPLES)]
    return [(level, task.make(base.Rng(f"check/{i}"), level)) for i, level in enumerate(levels)]


def shown(task: Task, problem: Problem, other: Problem) -> Iterator[str]:
    yield f"  prompt   {problem.prompt!r}"
    chain = task.work(problem)
    yield f"  chain    {chain!r}" if chain else "  chain    none: no `work`"
    misses = task.near_misses(problem) if isinstance(task, ModuleType) else []
    first, more = misses[:N_MISSES], misses[N_MISSES:]
    wrong = first or tried(problem, other)
    for text in dict.fromkeys([problem.witness.strip(), *wrong]):
        yield verdict(task, problem, text)
    if more:
        yield f"  and {len(more)} more near misses"


def verdict(task: Task, problem: Problem, text: str) -> str:
    """What the checker says of an answer, and by which rule where it has some."""
    verb = contract.says(contract.verdict(task.check, problem, handed(task, problem, text)))
    line = f"  {verb:<8} {text[:100]!r}"
    return f"{line}  ({task.rule(problem, text)})" if hasattr(task, "rule") else line


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
