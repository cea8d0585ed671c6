"""Equation: solve a linear equation for x, in whole numbers.

Level 1: a x + b = c.  Level 2: a x + b = c x + d.  Level 3: a (x + b) + c = d.
"""

from nomoat.tasks.base import Problem, Rng, ask, others, same

levels = (1, 2, 3)


def make(rng: Rng, level: int) -> Problem:
    x, a, b = rng.randint(1, 12), rng.randint(2, 9), rng.randint(1, 20)
    if level == 1:
        equation, steps = f"{a}x+{b}={a * x + b}", [f"{a}x={a * x}"]
    elif level == 2:
        c = rng.randint(1, a - 1)
        d = (a - c) * x + b
        equation = f"{a}x+{b}={c}x+{d}"
        steps = [f"{a - c}x+{b}={d}", f"{a - c}x={d - b}"]
    else:
        c = rng.randint(1, 20)
        total = a * (x + b) + c
        equation = f"{a}(x+{b})+{c}={total}"
        steps = [f"{a}(x+{b})={total - c}", f"x+{b}={x + b}"]
    lang, prompt = ask(rng, "equation", equation=equation)
    facts = {"lang": lang, "steps": [*steps, f"x={x}"], "b": b}
    return Problem(prompt, f"equation {equation}", str(x), facts)


def check(problem: Problem, answer: str) -> bool:
    return any(same(answer, form + problem.witness) for form in ("", "x=", "x = "))


def near_misses(problem: Problem) -> list[str]:
    x = int(problem.witness)
    return others(problem, x + 1, x - 1, -x, f"x={x + 1}", f"y={x}", f"{x}.0", x + problem.facts["b"])


def work(problem: Problem) -> str:
    """`4x+3=15, 4x=12, x=3: 3`: one step of the solution after the other."""
    return ", ".join(problem.facts["steps"]) + f": {problem.witness}"
