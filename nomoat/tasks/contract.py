"""The contract that every task keeps, tried on its problems."""

import hashlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

from nomoat.config import TaskError
from nomoat.tasks import base, guest
from nomoat.tasks.answers import SPECIAL, lenient_answer, strict_answer
from nomoat.tasks.base import LANGUAGES, Problem, Rng, Task, Undecided, problems

HOSTILE = (
    "", " ", "\n", "()", "1/0", "9**9**9**9", "50**60**70**80", "__import__('os').system('true')", "True+1",
    "1_0+1", "0x10", "[1]", "1;2", "1 if 1 else 2", "\x00", "１２", "1e3", "-1", "?", "on off", "an aus",
    "true or false", "wahr falsch", "a b c d e f g h i j k l m n o", "0 1 2 3 4 5 6 7 8 9", "Monday Tuesday",
    "<think></think>", "<|eos|>", "{}", "%s", "None", "nan", "\ud800",
)  # fmt: skip
LONG = ("1+" * 90 + "1", "1+" * 99 + "1", "ans" * 10**5, "(" * 5000 + "1", " " * 10**5, "9" * 10**5)
DRESSES = (
    "{0}{0}", "{0} {0}", "{0}\n{0}", "{0}\x00", "Answer: {0}", "={0}", "<think></think>{0}", "not {0}",
    "{0} or not", "{0}..", "({0},)",
)  # fmt: skip
JUNK = ("?", "()", "\x00", "nan")  # right nowhere, unless it is the answer
MAX_SECONDS = 0.25  # for one answer


def dressed(witness: str) -> list[str]:
    """Answers that hide, repeat or dress up the right one."""
    bare = witness.strip()
    return [*(form.format(bare) for form in DRESSES), bare + " " * 300 + "?"]


def verdict(check: Callable, problem: Problem, text: str) -> bool | str:
    """What `check` says, or how it failed to say it."""
    try:
        got = guest.attempt(guest.raw(check), problem, text)
    except Undecided:
        return "decides nothing about"
    if isinstance(got, guest.Fault):
        return f"raises {got.kind} ({got.words}) over"
    return f"returns {got!r:.40} for" if isinstance(got, str) else got


def says(got: object) -> str:
    """The verdict as a verb."""
    if isinstance(got, str):
        return got
    if isinstance(got, bool):
        return "accepts" if got else "rejects"
    return f"returns {got!r} for"


def misjudged(
    check: Callable, problem: Problem, wrong: Iterable[str], right: str | None = None
) -> Iterator[str]:
    """What `check` does with the right answer (by default the witness) and wrong ones, but should not."""
    right = problem.witness.strip() if right is None else right
    for text, want in [(right, True), *((text, False) for text in wrong)]:
        got = verdict(check, problem, text)
        if (got is True) is not want:
            yield f"{says(got)} {text[:60]!r} for"


def refusal(task: Task, level: int) -> str | None:
    """What `check` does instead with the task's own answer to the first problem of a level, and its question.
    """
    problem = task.make(Rng(f"vetted/{level}"), level)
    fault = next(misjudged(task.check, problem, ()), None)
    return fault and f"{fault} {problem.prompt[:60]!r}"


def misled(task: Task, level: int) -> str | None:
    """What is wrong with the worked chain of the first problem of a level."""
    return next(of_chain(task, task.make(Rng(f"vetted/{level}"), level)), None)


def vetted(task: SimpleNamespace) -> SimpleNamespace:
    """The task, if it takes its own answers, no junk, and asks the same again; its check no longer raises."""
    check = task.check
    for i in range(8):
        problem, again = (task.make(Rng(f"vetted/{i}"), 0) for _ in range(2))
        junk = [text for text in JUNK if text != problem.witness]
        right = task.dressed(problem) if hasattr(task, "dressed") else None
        fault = next(misjudged(check, problem, junk, right), None)
        if problem != again:
            fault = "asks another question the second time:"
        if fault:
            question = f"{problem.prompt[:60]!r}"
            raise TaskError(f"{task.__name__} {fault} {question}; expected otherwise; mend it or leave it")

    task.check = guest.total(check, base.short(task))
    return task


def fingerprint(task: Task, count: int = 8) -> str:
    """sha256 of the first `count` problems of every level and split, with their chains."""
    digest = hashlib.sha256()
    for level, split in itertools.product(task.levels, ("train", "eval")):
        for p in drawn(task, level, split, count, seed=7):
            whole = (p.prompt, p.key, p.witness, task.work(p), task.near_misses(p))
            digest.update(repr(whole).encode())
    return digest.hexdigest()


def elsewhere(task: Task, seed: int = 1) -> str:
    """The fingerprint as another process under another hash seed computes it."""
    code = """
import sys
from nomoat.tasks import contract, find
print(contract.fingerprint(find.load_file(sys.argv[1])))
"""
    mine = os.environ.get("PYTHONHASHSEED")
    other = str(seed + 100 if mine == str(seed) else seed)
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(task.__file__).resolve())],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": other, "PYTHONPATH": path},
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]


def contract(task: Task, count: int = 200, processes: int = 1) -> list[str]:
    """What the task breaks of the contract, one line each, by `count` problems of each level, and in so many
    other processes.

    An empty list means that it keeps it.
    """
    if missing := [name for name in base.NAMES if not hasattr(task, name)]:
        return [f"lacks {', '.join(missing)}"]
    if not ascends(task.levels):
        return [f"levels {task.levels!r} don't ascend"]
    complaints = dict.fromkeys(c for level in task.levels for c in of_level(task, level, count))
    own = None if complaints else fingerprint(task)
    if own and any(elsewhere(task, seed) != own for seed in range(1, 1 + processes)):
        return ["another process under another hash seed sees other problems"]
    return list(complaints)


def ascends(levels: object) -> bool:
    """Whether these are levels: whole numbers, at least one, each once, in order."""
    if not isinstance(levels, Sequence | range) or not levels:
        return False
    return all(type(level) is int for level in levels) and list(levels) == sorted(set(levels))


def of_level(task: Task, level: int, count: int) -> Iterator[str]:
    """Complaints about one level, by its first `count` problems and a quarter as many that are held out."""
    try:
        train = drawn(task, level, "train", count)
        held = drawn(task, level, "eval", count // 4)
    except TaskError as error:
        yield str(error)
        return
    if any(again(task, level, seed) for seed in range(3)):
        yield f"level {level}: make gives two problems for one rng; draw every choice from `rng`"
        return
    complaints = (
        of_splits(train, held),
        of_pairs(task, train + held),
        of_languages(task, level),
        of_hostile_answers(task, train[:2]),
    )
    yield from (f"level {level}: {complaint}" for complaint in itertools.chain(*complaints))


def again(task: Task, level: int, seed: int) -> bool:
    """Whether a problem is another one when it is made again."""
    first, second = (task.make(Rng(f"again/{level}/{seed}"), level) for _ in range(2))
    return first != second


def drawn(task: Task, level: int, split: str, n: int, seed: int = 0) -> list[Problem]:
    return list(itertools.islice(problems(task, level, split=split, seed=seed), n))


def of_splits(train: list[Problem], held: list[Problem]) -> Iterator[str]:
    if {p.key for p in train} & {p.key for p in held}:
        yield "train and eval share a key"
    spoken = {p.facts.get("lang") for p in train}
    if spoken != {None} and not spoken <= set(LANGUAGES):
        yield f"facts['lang'] isn't one of {LANGUAGES}"


def of_pairs(task: Task, stream: list[Problem]) -> Iterator[str]:
    """Each problem by itself, beside its neighbour, and beside those with its prompt or its key."""
    by_prompt = {}
    by_key = {}
    yield from of_wordings(stream)
    for problem, other in itertools.pairwise(stream):
        yield from of_answers(task, problem, other)
        yield from of_chain(task, problem)
        if by_prompt.setdefault(problem.prompt, problem).key != problem.key:
            yield f"one prompt, two problems: {problem.prompt!r}"
        twin = by_key.setdefault(problem.key, problem)
        same_language = twin.facts.get("lang") == problem.facts.get("lang")
        if same_language and verdict(task.check, problem, twin.witness) is not True:
            yield f"one key, two answers: {problem.key!r}"
        yield from of_reply(task, problem)


def of_wordings(stream: list[Problem]) -> Iterator[str]:
    """Keys that hold the prompt part one problem into as many as it has wordings."""
    known: dict[str, Problem] = {}
    for problem in stream:
        facts = {name: fact for name, fact in problem.facts.items() if name != "lang"}
        same = repr((problem.witness, facts))
        first = known.setdefault(same, problem)
        is_known = facts and first.key != problem.key
        if is_known and problem.prompt in problem.key:
            yield f"one problem, two keys: {first.key!r}, {problem.key!r}; a key without the wording is one"


def of_answers(task: Task, problem: Problem, other: Problem) -> Iterator[str]:
    """The witness is right; near misses and another problem's answer are wrong."""
    yield from judged(task, problem, problem.witness, True, "the witness")
    yield from judged(task, problem, problem.witness.strip(), True, "the witness without its outer blanks")
    misses = task.near_misses(problem)
    if len(set(misses)) < 3:
        yield f"fewer than 3 near misses for {problem.prompt!r}"
    for miss in misses:
        yield from judged(task, problem, miss, False, "the near miss")
    if problem.key != other.key and problem.witness != other.witness:
        yield from judged(task, problem, other.witness, False, "another problem's answer")


def of_chain(task: Task, problem: Problem) -> Iterator[str]:
    if task.work is base.no_work:
        return
    chain = task.work(problem)
    if chain != task.work(problem) or not chain.strip():
        yield "work is empty or changes from call to call"
    if SPECIAL.search(problem.prompt + chain + problem.witness):
        yield "special-token text in prompt or chain"
    if not chain.endswith(problem.witness):
        yield f"work doesn't end with the witness: {chain!r}, {problem.witness!r}"


def of_reply(task: Task, problem: Problem) -> Iterator[str]:
    """The witness is read out of a reply that shows the chain, strictly and leniently."""
    form = getattr(task, "form", "line")
    reply = f"{task.work(problem)}</think>{problem.witness}"
    if strict_answer("<think>" + reply, form) != problem.witness.strip():
        yield "no strict answer"
    if form == "line":
        yield from judged(task, problem, lenient_answer(reply), True, "the lenient answer")


def of_languages(task: Task, level: int) -> Iterator[str]:
    for seed in range(20):
        keys = set()
        for lang in LANGUAGES:
            rng = Rng(f"{level}/{seed}")
            rng.lang = lang
            keys.add(task.make(rng, level).key)
        if len(keys) > 1:
            yield "the key depends on the language"


def of_hostile_answers(task: Task, few: list[Problem]) -> Iterator[str]:
    for problem in few:
        for text in (*HOSTILE, *LONG, *dressed(problem.witness)):
            yield from judged(task, problem, text, False, "the hostile answer")


def judged(task: Task, problem: Problem, text: str, want: bool, what: str) -> Iterator[str]:
    """Whether `check` says what is wanted, and quickly."""
    start = time.process_time()
    got = verdict(task.check, problem, text)
    seconds = time.process_time() - start
    if got is not want:
        yield f"check {says(got)} {what} {text[:60]!r} for {problem.prompt!r}"
    if seconds >= MAX_SECONDS:
        yield f"check takes too long over {text[:60]!r}"
