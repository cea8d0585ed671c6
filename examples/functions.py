"""Functions: write a Python function f(x) as told, judged by running it on hidden inputs in the sandbox.

Level = the number of steps.  The inputs of the tests are drawn for each problem; the example in the prompt
is none. The key is what the function does to PROBES: orders of steps that come to the same are one problem.
Level 1 holds 43 problems, level 2 holds 973: small; level 3 holds 10,430.
"""

import ast
import hashlib
import itertools
import random
from collections.abc import Sequence

from nomoat.tasks.base import Problem, by_tests, language

levels = (1, 2, 3)
form = "text"

STEPS = {  # name: (English, German, expression in v, what it does: no text is run to know the answer)
    "add": ("add {n}", "addiere {n}", "[i+{n} for i in {v}]", lambda v, n: [i + n for i in v]),
    "times": (
        "multiply by {n}",
        "multipliziere mit {n}",
        "[i*{n} for i in {v}]",
        lambda v, n: [i * n for i in v],
    ),
    "even": (
        "keep the even ones",
        "behalte die geraden",
        "[i for i in {v} if i%2==0]",
        lambda v, n: [i for i in v if i % 2 == 0],
    ),
    "above": (
        "keep those above {n}",
        "behalte die über {n}",
        "[i for i in {v} if i>{n}]",
        lambda v, n: [i for i in v if i > n],
    ),
    "sort": ("sort", "sortiere", "sorted({v})", lambda v, n: sorted(v)),
    "reverse": ("reverse the order", "kehre die Reihenfolge um", "{v}[::-1]", lambda v, n: v[::-1]),
    "last": ("drop the first", "lass das erste weg", "{v}[1:]", lambda v, n: v[1:]),
}
PROBES = tuple([(7 * i + k) % 30 - 9 for i in range(30)] for k in (0, 4, 13))  # each holds -9 to 20
WORDINGS = {
    "en": ["Write a Python function f(x) for a list x of whole numbers: {steps}. Example: f({a}) is {b}."],
    "de": [
        (
            "Schreibe eine Python-Funktion f(x) für eine Liste x ganzer Zahlen: {steps}. "
            "Beispiel: f({a}) ist {b}."
        )
    ],
}
THEN = {"en": ", then ", "de": ", dann "}


def make(rng: random.Random, level: int) -> Problem:
    steps = [(name, rng.randint(2, 14)) for name in rng.sample(list(STEPS), level)]
    source = "x"
    for name, n in steps:
        source = STEPS[name][2].format(v=source, n=n)
    example, *hidden = telling_inputs(rng, steps)
    lang = language(rng)
    sentences = [STEPS[name][lang == "de"].format(n=n) for name, n in steps]
    asked = {
        "steps": THEN[lang].join(sentences),
        "a": example,
        "b": apply(steps, example),
    }
    does = repr(behaviour(steps, PROBES)).encode()
    key = hashlib.sha256(does).hexdigest()[:16]
    return Problem(
        rng.choice(WORDINGS[lang]).format(**asked),
        f"functions {key}",
        f"def f(x): return {source}",
        {"lang": lang, "inputs": hidden, "outputs": behaviour(steps, hidden), "steps": steps},
    )


def telling_inputs(rng: random.Random, steps: Sequence[tuple[str, int]]) -> list[list[int]]:
    """Five lists and an empty one; all but the first tell the steps from any slip."""
    wrong = slips(steps)
    while True:
        example, *hidden = (drawn_list(rng) for _ in range(5))
        right = behaviour(steps, hidden)
        if all(behaviour(slip, hidden) != right for slip in wrong):
            return [example, *hidden, []]


def slips(steps: Sequence[tuple[str, int]]) -> list[Sequence[tuple[str, int]]]:
    """Steps in another order, and some of them, where that makes a difference."""
    right = behaviour(steps, PROBES)
    orders = (itertools.permutations(steps, k) for k in range(len(steps) + 1))
    return [order for order in itertools.chain(*orders) if behaviour(order, PROBES) != right]


def drawn_list(rng: random.Random) -> list[int]:
    return [rng.randint(-9, 20) for _ in range(rng.randint(4, 7))]


def behaviour(steps: Sequence[tuple[str, int]], lists: Sequence[list[int]]) -> list[list[int]]:
    return [apply(steps, x) for x in lists]


def apply(steps: Sequence[tuple[str, int]], x: list[int]) -> list[int]:
    for name, n in steps:
        x = STEPS[name][3](x, n)
    return x


def check(problem: Problem, answer: str) -> bool:
    """Whether it is one definition of f that passes the hidden tests; what can't be one is not run."""
    text = answer.strip()
    if len(text) > 1000 or not text.isascii() or not text.startswith("def f("):
        return False
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.FunctionDef):
        return False
    return by_tests(problem, text)


def near_misses(problem: Problem) -> list[str]:
    return ["def f(x): return x and [x[0] + 1000]", f"def f(x): return {problem.facts['outputs'][0]}", "x"]


def work(problem: Problem) -> str:
    """`[i+2 for i in x], sorted(x); def f(x): …`: each step alone, then all of them."""
    alone = [STEPS[name][2].format(v="x", n=n) for name, n in problem.facts["steps"]]
    return ", ".join(alone) + f"; {problem.witness}"
