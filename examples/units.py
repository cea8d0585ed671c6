"""Units: convert a length, weight, time or amount of money into a smaller or larger unit.

Level 1: one amount into the smaller unit.  Level 2: two amounts into the smaller unit.  Level 3: and back
to the larger.
"""

import random

from nomoat.tasks.base import Problem, ask, others, same

levels = (1, 2, 3)

PAIRS = (
    ("m", "cm", 100),
    ("km", "m", 1000),
    ("kg", "g", 1000),
    ("h", "min", 60),
    ("min", "s", 60),
    ("d", "h", 24),
    ("cm", "mm", 10),
    ("EUR", "ct", 100),
)
WORDINGS = {
    "en": ("How many {unit} are {amount}?", "Convert {amount} to {unit}.", "{amount}=? {unit}"),
    "de": ("Wie viele {unit} sind {amount}?", "Rechne {amount} in {unit} um.", "{amount}=? {unit}"),
}


def make(rng: random.Random, level: int) -> Problem:
    large, small, factor = rng.choice(PAIRS)
    n, rest = rng.randint(2, 60), rng.randint(1, factor - 1)
    total = n * factor
    steps = [f"{n}*{factor}={total}"]
    amount, unit, answer = f"{n} {large}", small, total
    if level == 2:
        amount, answer = f"{amount} {rest} {small}", total + rest
        steps.append(f"{total}+{rest}={answer}")
    elif level == 3:
        amount, unit, answer = f"{total} {small}", large, n
        steps = [f"{total}/{factor}={n}"]
    key, facts = f"units {amount} {unit}", {"steps": steps, "factor": factor, "unit": unit}
    return ask(rng, WORDINGS, key, str(answer), facts, amount=amount, unit=unit)


def check(problem: Problem, answer: str) -> bool:
    return same(answer, problem.witness) or same(answer, f"{problem.witness} {problem.facts['unit']}")


def near_misses(problem: Problem) -> list[str]:
    right = int(problem.witness)
    return others(
        problem, right + 1, right * 10, right + problem.facts["factor"], f"{right}.0", f"{right} x", -right
    )


def work(problem: Problem) -> str:
    """`3*100=300,300+25=325: 325`."""
    return ",".join(problem.facts["steps"]) + f": {problem.witness}"
