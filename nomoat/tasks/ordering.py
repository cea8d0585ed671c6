"""Ordering: who is tallest, shortest or second tallest, from comparisons of two at a time?

Level: 2 + level // 2 people; at odd levels above 1 a comparison may be told either way ("shorter than").
Level 1 holds 480 problems: small; the others are large.
"""

import random

from nomoat.tasks.base import Problem, check, language, others

levels = (1, 2, 3, 4, 5, 6, 7)

PEOPLE = (
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hans", "Ida", "Jan", "Karl", "Lena", "Max", "Nora",
    "Otto", "Paul",
)  # fmt: skip
THAN = {
    "en": ("{0} is taller than {1}.", "{1} is shorter than {0}."),
    "de": ("{0} ist größer als {1}.", "{1} ist kleiner als {0}."),
}
QUESTIONS = {
    ("en", 0): ("Who is tallest?", "Who is the tallest?"),
    ("en", 1): ("Who is second tallest?", "Who is the second tallest?"),
    ("en", -1): ("Who is shortest?", "Who is the shortest?"),
    ("de", 0): ("Wer ist am größten?", "Wer ist die größte Person?"),
    ("de", 1): ("Wer ist am zweitgrößten?", "Wer ist die zweitgrößte Person?"),
    ("de", -1): ("Wer ist am kleinsten?", "Wer ist die kleinste Person?"),
}


def make(rng: random.Random, level: int) -> Problem:
    size = 2 + level // 2
    order = rng.sample(PEOPLE, size)
    place = rng.choice((0, 1, -1) if size > 2 else (0, -1))
    low = high = rng.randrange(size)
    told = []  # each comparison joins the row of people known so far, at one of its ends
    while high - low < size - 1:
        up = high == size - 1 or (low > 0 and rng.random() < 0.5)
        low, high, pair = (low - 1, high, (low - 1, low)) if up else (low, high + 1, (high, high + 1))
        told.append((order[pair[0]], order[pair[1]], int(level % 2 == 1 and level > 1 and rng.random() < 0.5)))
    lang = language(rng)
    text = " ".join(THAN[lang][turned].format(above, below) for above, below, turned in told)
    prompt = f"{text} {rng.choice(QUESTIONS[lang, place])}"
    facts = {"lang": lang, "told": told, "order": order}
    return Problem(prompt, f"ordering {order} {place}", f" {order[place]}", facts)


def near_misses(problem: Problem) -> list[str]:
    order = problem.facts["order"]
    return others(problem, *order, " ".join(order), f"{order[0]} {order[1]}", next(p for p in PEOPLE if p not in order))


def work(problem: Problem) -> str:
    """` Anna Ben; Clara Anna: Clara Anna Ben = Clara`: each comparison, tallest first, and the row it makes."""
    row: list[str] = []
    steps = []
    for above, below, _ in problem.facts["told"]:
        row = [above, *row] if row and row[0] == below else [*row, below] if row else [above, below]
        steps.append(f" {above} {below}" + (":" + "".join(f" {p}" for p in row) if len(row) > 2 else ""))
    return ";".join(steps) + " =" + problem.witness
