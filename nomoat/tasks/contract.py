"""The contract that every task keeps, tried on its problems."""

import hashlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

from nomoat.config import TaskError
from nomoat.tasks.answers import SPECIAL, lenient_answer, strict_answer
from nomoat.tasks.base import LANGUAGES, Problem, Rng, Task, problems, short
from nomoat.tasks.find import NAMES

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
    name = short(task) if task.__name__.startswith("nomoat.tasks.families.") else str(Path(task.__file__).resolve())
    code = "import sys; from nomoat.tasks import contract, find; print(contract.fingerprint(find.find(sys.argv[1])))"
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
