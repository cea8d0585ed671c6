"""Adding: whole numbers, digit by digit from the right.

Level 1: two digits and one.  Level 2: two and two.  In English alone.
"""

import random

from nomoat.tasks.base import Problem, check, others

levels = (1, 2)

SIZES = {1: (2, 1), 2: (2, 2)}
WORDINGS = ("What is {a}+{b}?", "Add {a} and {b}.", "{a}+{b}=?", "How much is {a} plus {b}?")


def make(rng: random.Random, level: int) -> Problem:
    a, b = (rng.randrange(10 ** (n - 1), 10**n) for n in SIZES[level])
    facts = {"lang": "en", "a": a, "b": b}
    prompt = rng.choice(WORDINGS).format(a=a, b=b)
    return Problem(prompt, f"adding {a}+{b}", str(a + b), facts)


def near_misses(problem: Problem) -> list[str]:
    right, a, b = int(problem.witness), problem.facts["a"], problem.facts["b"]
    return others(problem, right + 1, right - 1, right + 10, right - 10, f"{a}{b}", f"{right}.0", f"0{right}")


def work(problem: Problem) -> str:
    """`7+8=15,4+3+1=8: 85`: each column with what is carried."""
    first = str(problem.facts["a"])[::-1]
    second = str(problem.facts["b"])[::-1]
    steps = []
    carried = 0
    for place, digit in enumerate(first):
        digits = [digit, *second[place : place + 1]]
        if carried:
            digits.append("1")
        total = sum(map(int, digits))
        steps.append(f"{'+'.join(digits)}={total}")
        carried = total // 10
    return f"{','.join(steps)}: {problem.witness}"
