"""Equation: solve a linear equation for x, in whole numbers.

Level 1: a x + b = c.  Level 2: a x + b = c x + d.  Level 3: a (x + b) + c = d.
"""

from nomoat.tasks.base import Problem, Rng, ask, others, same

levels = (1, 2, 3)

WORDINGS = {
    "en": ("Solve {equation}. What is x?", "Find x: {equation}", "For which x is {equation}?"),
    "de": ("Löse {equation}. Was ist x?", "Finde x: {equation}", "Für welches x gilt {equation}?"),
}


def make(rng: Rng, level: int) -> Problem:
    x, a, b = rng.randint(1, 12), rng.randint(2, 9), rng.randint(1, 20)
    equation, *steps = solved(rng, level, x, a, b)
    facts = {"steps": [*steps, f"x={x}"], "b": b}
    return ask(rng, WORDINGS, f"equation {equation}", str(x), facts, equation=equation)


def solved(rng: Rng, level: int, x: int, a: int, b: int) -> tuple[str, ...]:
    """The equation, and what becomes of it before x stands alone."""
    if level == 1:
        return f"{a}x+{b}={a * x + b}", f"{a}x={a * x}"
    if level == 2:
        c = rng.randint(1, a - 1)
        n = a - c
        d = n * x + b
        return f"{a}x+{b}={c}x+{d}", f"{n}x+{b}={d}", f"{n}x={d - b}"
    c = rng.randint(1, 20)
    product = a * (x + b)
    return f"{a}(x+{b})+{c}={product + c}", f"{a}(x+{b})={product}", f"x+{b}={x + b}"


def check(problem: Problem, answer: str) -> bool:
    return any(same(answer, form + problem.witness) for form in ("", "x=", "x = "))


def near_misses(problem: Problem) -> list[str]:
    x = int(problem.witness)
    return others(problem, x + 1, x - 1, -x, f"x={x + 1}", f"y={x}", f"{x}.0", x + problem.facts["b"])


def work(problem: Problem) -> str:
    """`4x+3=15, 4x=12, x=3: 3`: one step of the solution after the other."""
    return ", ".join(problem.facts["steps"]) + f": {problem.witness}"
