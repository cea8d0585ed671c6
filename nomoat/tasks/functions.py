"""Functions: write a Python function f(x) as told, judged by running it on hidden inputs in the sandbox.

Level = the number of steps.  The inputs of the tests are drawn for each problem; the example in the prompt is none.
"""

import ast
import random

from nomoat.tasks.base import Problem, by_tests, language

levels = (1, 2, 3)
form = "text"

STEPS = {  # name: (English, German, expression in v)
    "add": ("add {n}", "addiere {n}", "[i+{n} for i in {v}]"),
    "times": ("multiply by {n}", "multipliziere mit {n}", "[i*{n} for i in {v}]"),
    "even": ("keep the even ones", "behalte die geraden", "[i for i in {v} if i%2==0]"),
    "above": ("keep those above {n}", "behalte die über {n}", "[i for i in {v} if i>{n}]"),
    "sort": ("sort", "sortiere", "sorted({v})"),
    "reverse": ("reverse the order", "kehre die Reihenfolge um", "{v}[::-1]"),
    "last": ("drop the first", "lass das erste weg", "{v}[1:]"),
}
WORDINGS = {
    "en": ("Write a Python function f(x) for a list x of whole numbers: {steps}. Example: f({a}) is {b}.",),
    "de": ("Schreibe eine Python-Funktion f(x) für eine Liste x ganzer Zahlen: {steps}. Beispiel: f({a}) ist {b}.",),
}
THEN = {"en": ", then ", "de": ", dann "}


def make(rng: random.Random, level: int) -> Problem:
    steps = [(name, rng.randint(2, 9)) for name in rng.sample(list(STEPS), level)]
    source = "x"
    for name, n in steps:
        source = STEPS[name][2].format(v=source, n=n)
    lists = [[rng.randint(-9, 20) for _ in range(rng.randint(4, 7))] for _ in range(5)]
    example, *hidden = lists
    hidden.append([])
    lang = language(rng)
    told = THEN[lang].join(STEPS[name][lang == "de"].format(n=n) for name, n in steps)
    prompt = rng.choice(WORDINGS[lang]).format(steps=told, a=example, b=apply(steps, example))
    facts = {"lang": lang, "inputs": hidden, "outputs": [apply(steps, x) for x in hidden], "steps": steps}
    return Problem(prompt, f"functions {steps}", f"def f(x): return {source}", facts)


def apply(steps: list[tuple[str, int]], x: list[int]) -> list[int]:
    """What the function gives, without running any text."""
    for name, n in steps:
        x = {
            "add": lambda x=x, n=n: [i + n for i in x],
            "times": lambda x=x, n=n: [i * n for i in x],
            "even": lambda x=x: [i for i in x if i % 2 == 0],
            "above": lambda x=x, n=n: [i for i in x if i > n],
            "sort": lambda x=x: sorted(x),
            "reverse": lambda x=x: x[::-1],
            "last": lambda x=x: x[1:],
        }[name]()
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
