"""Data sets of reasoning-gym as tasks, judged by their own scorers: `rg:chain_sum`.

They have one level, 0; right is what the library scores with 1.  It runs with your rights, and judges as it
likes: `nomoat task check` shows what it lets pass.  Data sets whose scorer evaluates a model's text are
refused.
"""

import importlib
import inspect
import re
from random import Random
from types import SimpleNamespace
from typing import Any

from nomoat.config import TaskError
from nomoat.tasks import base, contract
from nomoat.tasks.base import Problem

EVALUATES = re.compile(r"\b(?:eval|exec|parse_expr|sympify)\((?!entry)")
FICKLE = "its problems differ from process to process"
REFUSED = {
    "acre": "its data are not freely licensed",
    "prime_factorization": "its scorer fails on every separator but one",
    "codeio": FICKLE,
    "isomorphic_strings": FICKLE,
    "knight_swap": FICKLE,
    "list_functions": FICKLE,
    "ransom_note": FICKLE,
}
SIZE = 10**6


def load(name: str) -> SimpleNamespace:
    """The task of the data set of that name; TaskError where it can't judge."""
    data = data_set(name)

    def draw(rng: Random) -> Problem:
        entry = data[rng.randrange(SIZE)]
        return Problem(entry["question"], entry["question"], str(entry["answer"] or ""), {"entry": entry})

    def check(problem: Problem, answer: str) -> bool:
        return data.score_answer(answer, problem.facts["entry"]) >= 1

    witnesses = [draw(base.Rng(f"form/{i}")).witness for i in range(16)]
    of_one_line = all(len(w.splitlines()) == 1 and len(w) <= base.MAX_ANSWER for w in witnesses)
    task = base.one_level(f"rg_{name}", draw, check, "line" if of_one_line else "text")
    task.named = f"rg:{name}"
    return contract.vetted(task)


def data_set(name: str) -> Any:
    try:
        library = importlib.import_module("reasoning_gym")
    except ImportError:
        cure = "expected the extra `gym`; pip install 'nomoat[gym]'"
        raise TaskError(f"rg:{name} needs reasoning-gym; {cure}") from None
    try:
        if name in REFUSED:
            raise ValueError(REFUSED[name])
        data = library.create_dataset(name, seed=0, size=SIZE)
        if EVALUATES.search(inspect.getsource(type(data).score_answer)):
            raise ValueError("its scorer evaluates what a model wrote")
    except (ValueError, AssertionError) as error:
        expected = "expected a data set that can judge; choose another"
        raise TaskError(f"rg:{name} can't be used: {error}; {expected}") from None
    return data
