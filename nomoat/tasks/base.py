"""What a task is, the streams of problems drawn from it, and the contract that every task file keeps.

A task is a plain module with the names `levels`, `make`, `check`, `near_misses`, and `work`, which a model
that learns it from nothing is shown.  `nomoat task new` writes one to begin with, and
`contract(load_file("yours.py"))` tells what is still wrong with it.  `check` decides and never raises; how
much a correct answer is worth is the reward's business, not the task's.
"""

import hashlib
import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from nomoat.config import TaskError

NAMES = ("levels", "make", "check", "near_misses")  # and `work`, where examples are shown
LANGUAGES = ("en", "de")
SIDES = {"train": "to train on", "eval": "to measure with"}
MAX_ANSWER = 200  # characters of one line; longer than any honest answer
MAX_TEXT = 2**14  # characters of an answer in a task whose `form` is "text"
MAX_DRAWS = 20_000  # a split that gives nothing in so many draws is empty


@dataclass(frozen=True, slots=True)
class Problem:
    """`witness`: an answer that `check` accepts; with a leading blank its first word is a token of sentences.
    `facts`: "lang", "messages" of role and content where a conversation is asked, and whatever the task's
    functions need besides the answer.
    """

    prompt: str  # shown to the model, verbatim
    key: str  # problems with equal keys are the same problem, however worded, in whatever language
    witness: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Undecided(Exception):
    """The machine failed, not the answer: the sandbox could not run.  The sample is left out, not wrong."""


class Task(Protocol):
    """`form` may be set to "text" where an answer has several lines; without it, an answer is one line."""

    __name__: str
    levels: Sequence[int]
    make: Callable[["Rng", int], Problem]
    check: Callable[[Problem, str], bool]
    near_misses: Callable[[Problem], list[str]]
    work: Callable[[Problem], str]


class Rng(random.Random):
    """A random source that may insist on one language; the draws are the same either way."""

    lang: str | None = None


def language(rng: random.Random) -> str:
    """'en' or 'de'.  To be drawn after everything that enters the key."""
    drawn = rng.choice(LANGUAGES)
    return getattr(rng, "lang", None) or drawn


def ask(
    rng: random.Random,
    wordings: Mapping[str, Sequence[str]],
    key: str,
    witness: str,
    facts: Mapping[str, Any],
    **parts: object,
) -> Problem:
    """The problem in one of its wordings with these parts, in a language that has some.  To be drawn as late
    as `language`."""
    lang = next((lang for lang in (language(rng), *LANGUAGES) if wordings.get(lang)), None)
    if lang is None:
        expected = f"expected wordings under one of {LANGUAGES} at least"
        raise TaskError(f"{key}: wordings in {sorted(wordings)}; {expected}; add them")
    return Problem(rng.choice(wordings[lang]).format(**parts), key, witness, {"lang": lang, **facts})


def bare(answer: str) -> str:
    """The answer without outer blanks and one full stop; '' where it is too long."""
    return answer.strip(" \t\r\n").removesuffix(".") if len(answer) <= MAX_ANSWER else ""


def same(answer: str, expected: str) -> bool:
    """Equality but for what every prompt allows: outer blanks, one full stop, the case of ASCII letters."""
    if len(answer) > MAX_ANSWER or not answer.isascii():  # 'K' (the kelvin sign) lowers to 'k'
        return False
    return bare(answer).lower() == bare(expected).lower()


def check(problem: Problem, answer: str) -> bool:
    """The `check` of every task with one right answer: import it beside `Problem`."""
    return same(answer, problem.witness)


def by_tests(problem: Problem, answer: str) -> bool:
    """Whether the Python function f(x) in the answer maps facts["inputs"] to facts["outputs"] in the sandbox.

    The outputs stay in this process; their types count.  Raises Undecided if the sandbox failed.
    """
    from nomoat import sandbox

    if not answer.strip() or len(answer) > MAX_TEXT:
        return False
    verdict = sandbox.judge(answer, problem.facts["inputs"], problem.facts["outputs"])
    if verdict.status == "infra":
        raise Undecided(verdict.detail)
    return verdict.status == "pass"


def others(problem: Problem, *candidates: object) -> list[str]:
    """The distinct candidates that aren't the witness."""
    return [c for c in dict.fromkeys(map(str, candidates)) if not same(c, problem.witness)]


def spaced(letters: Iterable[str]) -> str:
    """` a b c`: each letter a token of its own."""
    return "".join(f" {letter}" for letter in letters)


def split_of(problem: Problem) -> str:
    """'eval' for about 1 problem in 16, decided by the problem's own key, so that the two can't overlap."""
    return "eval" if hashlib.sha256(problem.key.encode()).digest()[0] < 16 else "train"


def problems(task: Task, level: int, *, split: str, seed: int, lang: str | None = None) -> Iterator[Problem]:
    """Endless stream, the same on every machine and Python; `lang` keeps to one language.

    Raises TaskError for a level that the task doesn't have, or a split that it leaves empty.
    """
    if level not in task.levels:
        expected = f"expected one of {list(task.levels)}; choose one"
        raise TaskError(f"task {short(task)} has no level {level}; {expected}")
    if hasattr(task, "listed"):
        yield from _in_turn(task, split, seed)
    for index in itertools.count():
        rng = Rng(f"{short(task)}/{level}/{split}/{seed}/{index}")  # keyed, never `seed + index`
        rng.lang = lang
        for _ in range(MAX_DRAWS):
            problem = task.make(rng, level)
            if split_of(problem) == split:
                yield problem
                break
        else:
            raise TaskError(
                f"task {short(task)}, level {level}: no problem of the {split} split in {MAX_DRAWS} draws; "
                f"expected at least a few hundred distinct keys; widen what `make` draws"
            )


def _in_turn(task: Task, split: str, seed: int) -> Iterator[Problem]:
    """The problems of a list, each once a round, in an order that is drawn as it goes (Fisher and Yates)."""
    chosen = task.listed[split]
    if not chosen:
        raise TaskError(f"{short(task)} has no problem {SIDES[split]}: {left(task)}")
    for round in itertools.count():
        rng = Rng(f"{short(task)}/{split}/{seed}/round {round}")
        moved = {}
        for i in range(len(chosen)):
            j = rng.randrange(i, len(chosen))
            yield chosen[moved.get(j, j)]
            moved[j] = moved.get(i, i)


def left(task: Task) -> str:
    """What the split leaves of a list of problems, and the cure where one side is empty."""
    n_train, n_eval = (len(task.listed[split]) for split in ("train", "eval"))
    n = n_train + n_eval
    problems = "1 problem" if n == 1 else f"{n} problems"
    are = "is" if n_train == 1 else "are"
    what = f"of {problems} {n_train} {are} for training and {n_eval} held out"
    if n_eval and n_train:
        return what
    if n_train:
        return f"{what} (about 1 in 16 is); add problems, or measure on a file of its own with :test"
    return f"{what}; leave :test out, or train on another file"


def listed(name: str, problems: Sequence[Problem], check: Callable, form: str) -> SimpleNamespace:
    """The task of the problems of a file; `listed` has those of each split, in the order of the file."""
    task = one_level(name, lambda rng: rng.choice(problems), check, form)
    task.listed = {split: [p for p in problems if split_of(p) == split] for split in ("train", "eval")}
    return task


def one_level(name: str, draw: Callable[[Rng], Problem], check: Callable, form: str) -> SimpleNamespace:
    """A task of what a file or a library holds, with the names of a task file and the one level 0."""
    return SimpleNamespace(
        __name__=re.sub(r"\W", "_", Path(name).stem),
        __file__=name if Path(name).is_file() else None,
        levels=(0,),
        form=form,
        make=lambda rng, level: draw(rng),
        check=check,
        near_misses=lambda problem: ["?"],
        work=lambda problem: problem.facts.get("work", ""),
    )


def worked(task: Task, problem: Problem) -> tuple[str, str]:
    """(chain for the thinking, answer): one worked example."""
    return task.work(problem), problem.witness


def no_work(problem: Problem) -> str:
    """The `work` of a task that shows no examples."""
    return ""


def named(task: Task) -> str:
    """What a person types for the task: its file with the checker, or the name of its family."""
    return getattr(task, "named", short(task))


def short(task: Task) -> str:
    return task.__name__.rpartition(".")[2]
