"""Story: a word problem of several steps; level = how many things happen."""

import operator
import random

from nomoat.tasks.base import Problem, check, language, others

levels = (1, 2, 3, 4)

APPLY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv}
NAMES = ("Mia", "Ben", "Ida", "Tom", "Eva", "Max")
THINGS = {"en": ("apples", "coins", "cards", "books"), "de": ("Äpfel", "Münzen", "Karten", "Bücher")}
EVENTS = {
    "+": {"en": (" gets {n} more", " finds {n}"), "de": (" bekommt {n} dazu", " findet {n}")},
    "-": {"en": (" gives {n} away", " loses {n}"), "de": (" gibt {n} weg", " verliert {n}")},
    "*": {"en": (" then has {n} times as many",), "de": (" hat danach {n}-mal so viele",)},
    "/": {
        "en": (" shares them among {n} and keeps one part",),
        "de": (" teilt sie durch {n} und behält einen Teil",),
    },
}
WORDINGS = {
    "en": (
        "{name} has {start} {things}. {events}. How many does {name} have now?",
        "How many {things} does {name} have after this? {name} starts with {start}. {events}.",
    ),
    "de": (
        "{name} hat {start} {things}. {events}. Wie viele hat {name} jetzt?",
        "Wie viele {things} hat {name} danach? {name} beginnt mit {start}. {events}.",
    ),
}


def make(rng: random.Random, level: int) -> Problem:
    name, thing = rng.choice(NAMES), rng.randrange(4)
    start = rng.randint(2, 20)
    value, steps = start, []
    for _ in range(level):
        op, n = drawn_step(rng, value)
        after = APPLY[op](value, n)
        steps.append((value, op, n, after))
        value = after
    lang = language(rng)
    events = [name + rng.choice(EVENTS[op][lang]).format(n=n) for _, op, n, _ in steps]
    frame = {
        "name": name,
        "start": start,
        "things": THINGS[lang][thing],
    }
    return Problem(
        rng.choice(WORDINGS[lang]).format(**frame, events=". ".join(events)),
        f"story {start} " + " ".join(f"{op}{n}" for _, op, n, _ in steps),
        str(value),
        {"lang": lang, "steps": steps},
    )


def drawn_step(rng: random.Random, value: int) -> tuple[str, int]:
    ways = [("+", rng.randint(1, 20))]
    if value > 1:
        ways.append(("-", rng.randint(1, value - 1)))
    if value <= 25:
        ways.append(("*", rng.randint(2, 4)))
    divisor = rng.choice((2, 3, 4, 5))
    if value % divisor == 0:
        ways.append(("/", divisor))
    return rng.choice(ways)


def near_misses(problem: Problem) -> list[str]:
    right, (value, _, n, _) = int(problem.witness), problem.facts["steps"][-1]
    return others(problem, right + 1, right - 1, value, right + n, f"{right}.0", f"{value}+{n}")


def work(problem: Problem) -> str:
    """`12+5=17, 17*2=34: 34`: one thing after the other."""
    return ", ".join(f"{a}{op}{n}={b}" for a, op, n, b in problem.facts["steps"]) + f": {problem.witness}"
