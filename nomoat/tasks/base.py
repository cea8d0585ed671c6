"""What a task is, the streams of problems drawn from it, and the contract that every task file keeps.

A task is a plain module with five names: `levels`, `make`, `check`, `near_misses`, `work`.  `nomoat task new` writes one
to begin with, and `contract(load_file("yours.py"))` tells what is still wrong with it.  `check` decides and never raises;
how much a correct answer is worth is the reward's business, not the task's.  What the package's own families say in each
language is in words.toml.
"""

import functools
import hashlib
import importlib
import importlib.util
import itertools
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nomoat.config import TaskError, shipped

FAMILIES = (
    "lamp", "addition", "modchain", "sorting", "counting", "reversing", "countdown", "weekday", "ordering", "boolean",
    "path", "instruct", "fields", "equation", "clock", "rewriting", "sequence",
)  # fmt: skip
UNSEEN = ("equation", "clock", "rewriting", "sequence")  # no shipped recipe trains on them: they measure transfer
NAMES = ("levels", "make", "check", "near_misses", "work")
LANGUAGES = ("en", "de")
MAX_ANSWER = 200  # characters of one line; longer than any honest answer
MAX_TEXT = 4000  # characters of an answer in a task whose `form` is "text"
MAX_DRAWS = 20_000  # a split that gives nothing in so many draws is empty


@dataclass(frozen=True, slots=True)
class Problem:
    prompt: str  # shown to the model, verbatim
    key: str  # problems with equal keys are the same problem, however worded, in whatever language
    witness: str  # one answer that `check` accepts; a leading space makes its first word the token it is in a sentence
    facts: Mapping[str, Any] = field(default_factory=dict)  # "lang", and what `check` needs besides the answer


class Undecided(Exception):
    """The machine failed, not the answer: the sandbox could not run.  Never a wrong answer; the sample is left out."""


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


# --- what task files use -------------------------------------------------------------------------------------------


def language(rng: random.Random) -> str:
    """'en' or 'de'.  To be drawn after everything that enters the key."""
    drawn = rng.choice(LANGUAGES)
    return getattr(rng, "lang", None) or drawn


def words(family: str, lang: str) -> dict[str, Any]:
    """What words.toml says in that language for a family of the package."""
    return shipped(__file__, "words.toml")[family][lang]


def ask(rng: random.Random, family: str, **parts: object) -> tuple[str, str]:
    """(language, prompt): one of the family's wordings with its parts.  To be drawn as late as `language`."""
    lang = language(rng)
    return lang, rng.choice(words(family, lang)["ask"]).format(**parts)


def same(answer: str, expected: str) -> bool:
    """Equality after what every prompt allows: outer blanks, one full stop at the end, the case of ASCII letters."""
    if len(answer) > MAX_ANSWER or not answer.isascii():  # 'K' (the kelvin sign) lowers to 'k'
        return False
    return answer.strip(" \t\r\n").removesuffix(".").lower() == expected.strip().lower()


def check(problem: Problem, answer: str) -> bool:
    """The `check` of every task with one right answer: import it beside `Problem`."""
    return same(answer, problem.witness)


def by_tests(problem: Problem, answer: str) -> bool:
    """Whether the Python function f(x) in the answer maps facts["inputs"] to facts["outputs"], run in the sandbox.

    The outputs stay in this process and are compared with exact types.  Raises Undecided if the sandbox failed.
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


# --- streams -------------------------------------------------------------------------------------------------------


def split_of(problem: Problem) -> str:
    """'eval' for about 1 problem in 16, decided by the problem's own key, so that the two can't overlap."""
    return "eval" if hashlib.sha256(problem.key.encode()).digest()[0] < 16 else "train"


def problems(task: Task, level: int, *, split: str, seed: int, lang: str | None = None) -> Iterator[Problem]:
    """Endless stream, the same for the same arguments on every machine and Python; `lang` keeps to one language.

    Raises TaskError for a level or split that the task doesn't have.
    """
    if level not in task.levels:
        raise TaskError(f"task {short(task)} has no level {level}; expected one of {list(task.levels)}; choose one")
    if split not in ("train", "eval"):
        raise TaskError(f"no split {split!r}; expected 'train' or 'eval'; choose one")
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


def worked(task: Task, problem: Problem) -> tuple[str, str]:
    """(chain for the thinking, answer): one worked example."""
    return task.work(problem), problem.witness


def short(task: Task) -> str:
    return task.__name__.rpartition(".")[2]


# --- finding tasks -------------------------------------------------------------------------------------------------


def families() -> dict[str, Task]:
    """Every family of the package by name, easiest to reproduce first; imported at the call."""
    return {name: importlib.import_module(f"nomoat.tasks.{name}") for name in FAMILIES}


@functools.cache
def find(name: str) -> Task:
    """The family of that name, the task in a Python file, or one that `nomoat.tasks.external` reads."""
    if name in FAMILIES:
        return importlib.import_module(f"nomoat.tasks.{name}")
    if name.endswith(".py"):
        return load_file(name)
    if ":" in name or name.endswith(".jsonl"):
        return importlib.import_module("nomoat.tasks.external").load(name)
    raise TaskError(f"no task {name!r}; expected a .py or .jsonl file, or one of: {', '.join(FAMILIES)}; choose one")


def load_file(path: str | Path) -> Task:
    """A Python file as a task.  It runs with your rights: load only files that you have read."""
    path = Path(path)
    if not path.is_file():
        raise TaskError(f"no task file at {path}; expected a Python file with {', '.join(NAMES)}; check the path")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise TaskError(f"{path} is not a Python file; expected a name that ends in .py; rename it")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise TaskError(f"{path} is not Python: {error}; expected a task file; mend that line") from None
    if missing := [name for name in NAMES if not hasattr(module, name)]:
        raise TaskError(f"{path} lacks {', '.join(missing)}; expected {', '.join(NAMES)}; add what is missing")
    return module


# --- the answer in a reply -----------------------------------------------------------------------------------------

SPECIAL = re.compile(r"<\|[a-z]+\|>|</?think>")
CUE = re.compile(r"[=:]|\b(?:answer|antwort)\b(?:\s(?:is|ist|lautet)\b)?", re.IGNORECASE)


def strict_answer(reply: str, form: str = "line") -> str | None:
    """What stands after the one closed thinking block (or the whole reply, if it has none); else None.

    The opening tag may be missing where the prompt already gave it.  One line, unless `form` is "text".
    """
    thinking, closed, answer = reply.removesuffix("<|eos|>").rpartition("</think>")
    if SPECIAL.search(thinking.removeprefix("<think>")) or SPECIAL.search(answer):
        return None
    answer = answer.strip()
    if form == "text":
        return answer if 0 < len(answer) <= MAX_TEXT else None
    return answer if 0 < len(answer) <= MAX_ANSWER and len(answer.splitlines()) == 1 else None


def lenient_answer(reply: str) -> str:
    """What looks most like an answer, whatever the form: the end of the last line, after its last cue.  May be ''."""
    lines = [line for line in SPECIAL.sub("\n", reply[-2000:]).splitlines() if line.strip()]
    pieces = [piece for piece in CUE.split(lines[-1]) if piece.strip()] if lines else []
    return pieces[-1].strip(" \t*`'\"") if pieces else ""


# --- the contract --------------------------------------------------------------------------------------------------

HOSTILE = (
    "", " ", "\n", "()", "1/0", "9**9**9**9", "50**60**70**80", "__import__('os').system('true')", "1+" * 90 + "1",
    "True+1", "1_0+1", "0x10", "[1]", "1;2", "1 if 1 else 2", "\x00", "１２", "1e3", "-1", "+".join(["1"] * 100), "?",
    "ans" * 10**5, "(" * 5000 + "1", "on off", "an aus", "true or false", "wahr falsch",
    "a b c d e f g h i j k l m n o", "0 1 2 3 4 5 6 7 8 9", "Monday Tuesday", "<think></think>", "<|eos|>", "{}", "%s",
    "None", "nan", "\ud800", " " * 10**5, "9" * 10**5,
)  # fmt: skip


def hostile(witness: str) -> list[str]:
    """Answers that hide, repeat or dress up the right one."""
    bare = witness.strip()
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in bare)
    return [
        *HOSTILE, bare + bare, f"{bare} {bare}", f"{bare}\n{bare}", f"{bare}\x00", f"Answer: {bare}", f"={bare}", wide,
        f"<think></think>{bare}", f"not {bare}", f"{bare} or not", f"{bare}..", f"({bare},)", bare + " " * 300 + "?",
    ]  # fmt: skip


FAULTS = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, SyntaxError, RecursionError, MemoryError)


def verdict(task: Task, problem: Problem, text: str) -> bool | str:
    """What `check` says, or how it failed to say it."""
    try:
        return task.check(problem, text)
    except FAULTS as error:
        return f"raises {type(error).__name__} over"


def says(got: object) -> str:
    return got if isinstance(got, str) else {True: "accepts", False: "rejects"}.get(got, f"returns {got!r} for")


def fingerprint(task: Task, count: int = 8) -> str:
    """sha256 of the first `count` problems of every level and split, with their chains."""
    digest = hashlib.sha256()
    for level, split in itertools.product(task.levels, ("train", "eval")):
        for p in itertools.islice(problems(task, level, split=split, seed=7), count):
            digest.update(repr((p.prompt, p.key, p.witness, task.work(p), task.near_misses(p))).encode())
    return digest.hexdigest()


def elsewhere(task: Task) -> str:
    """The fingerprint as another process under another hash seed computes it."""
    name = short(task) if task.__name__.startswith("nomoat.tasks.") else str(Path(task.__file__).resolve())
    code = "import sys; from nomoat.tasks import base; print(base.fingerprint(base.find(sys.argv[1])))"
    env = dict(os.environ, PYTHONHASHSEED="1" if os.environ.get("PYTHONHASHSEED") != "1" else "2")
    env["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, env=env, check=False)
    return done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]


def contract(task: Task, count: int = 200) -> list[str]:
    """What the task breaks of the contract, one line each; an empty list means that it keeps it."""
    if missing := [name for name in NAMES if not hasattr(task, name)]:
        return [f"lacks {', '.join(missing)}"]
    if not task.levels or list(task.levels) != sorted(set(task.levels)):
        return [f"levels {task.levels!r} don't ascend"]
    found: dict[str, None] = {}  # an ordered set: each complaint once

    def expect(truth: bool, complaint: str) -> None:
        if not truth:
            found.setdefault(complaint)

    def judge(problem: Problem, text: str, want: bool, what: str) -> None:
        start = time.process_time()
        got = verdict(task, problem, text)
        expect(got is want, at + f"check {says(got)} {what} {text[:60]!r} for {problem.prompt!r}")
        expect(time.process_time() - start < 0.25, at + f"check takes too long over {text[:60]!r}")

    for level in task.levels:
        at = f"level {level}: "
        try:
            train = list(itertools.islice(problems(task, level, split="train", seed=0), count))
            held = list(itertools.islice(problems(task, level, split="eval", seed=0), count // 4))
        except TaskError as error:
            expect(False, str(error))
            continue
        expect(not {p.key for p in train} & {p.key for p in held}, at + "train and eval share a key")
        expect({p.facts.get("lang") for p in train} == set(LANGUAGES), at + f"facts['lang'] isn't both of {LANGUAGES}")
        by_prompt: dict[str, Problem] = {}
        by_key: dict[str, Problem] = {}
        for p, q in itertools.pairwise(train + held):
            judge(p, p.witness, True, "the witness")
            judge(p, p.witness.strip(), True, "the witness without its outer blanks")
            misses = task.near_misses(p)
            expect(len(set(misses)) >= 3, at + f"fewer than 3 near misses for {p.prompt!r}")
            for miss in misses:
                judge(p, miss, False, "the near miss")
            if p.key != q.key and p.witness != q.witness:
                judge(p, q.witness, False, "another problem's answer")
            chain = task.work(p)
            expect(chain == task.work(p) and bool(chain.strip()), at + "work is empty or changes from call to call")
            expect(not SPECIAL.search(p.prompt + chain + p.witness), at + "special-token text in prompt or chain")
            expect(chain.endswith(p.witness), at + f"work doesn't end with the witness: {chain!r}, {p.witness!r}")
            expect(by_prompt.setdefault(p.prompt, p).key == p.key, at + f"one prompt, two problems: {p.prompt!r}")
            twin = by_key.setdefault(p.key, p)
            if twin.facts.get("lang") == p.facts.get("lang"):
                expect(verdict(task, p, twin.witness) is True, at + f"one key, two answers: {p.key!r}")
            form = getattr(task, "form", "line")
            expect(strict_answer(f"<think>{chain}</think>{p.witness}", form) == p.witness.strip(), at + "no strict answer")
            if form == "line":
                judge(p, lenient_answer(f"{chain}</think>{p.witness}"), True, "the lenient answer")
        for seed in range(20):
            rngs = [Rng(f"{level}/{seed}") for _ in LANGUAGES]
            for rng, lang in zip(rngs, LANGUAGES):
                rng.lang = lang
            expect(len({task.make(rng, level).key for rng in rngs}) == 1, at + "the key depends on the language")
        for p in train[:2]:
            for text in hostile(p.witness):
                judge(p, text, False, "the hostile answer")
    if not found:
        expect(fingerprint(task) == elsewhere(task), "another process under another hash seed sees other problems")
    return list(found)
