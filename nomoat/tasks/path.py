"""Path: how many one-way roads lead from one place to another?

Level = the most roads on the way.  At most one road leaves a place, so the way is the shortest; further roads lead on
from the goal or elsewhere.  Every level is large.
"""

import random

from nomoat.tasks.base import Problem, check, language, others

levels = (2, 3, 4, 5, 6, 7)

PLACES = "bcdefghjklmnopqrstuvwxyz"  # no "a" and no "i": words in English
WORDINGS = {  # the question never names start and goal side by side: they would pass for a road
    "en": ("One-way roads, from and to:{roads}. How many roads lead to {goal} when you start at {start}?",
           "Each pair is a one-way road:{roads}. How many roads to {goal}, starting at {start}?"),
    "de": ("Einbahnstraßen, von und nach:{roads}. Wie viele führen nach {goal}, wenn du in {start} beginnst?",
           "Jedes Paar ist eine Einbahnstraße:{roads}. Wie viele Straßen nach {goal}, Start in {start}?"),
}  # fmt: skip


def make(rng: random.Random, level: int) -> Problem:
    steps = rng.randint(1, level)
    beyond, elsewhere = rng.randint(0, 2), rng.randint(1, 3)
    places = rng.sample(PLACES, steps + beyond + 1 + elsewhere + 1)
    way, aside = places[: steps + beyond + 1], places[steps + beyond + 1 :]
    roads = [*zip(way, way[1:]), *zip(aside, aside[1:])]
    rng.shuffle(roads)
    start, goal = way[0], way[steps]
    lang = language(rng)
    told = ",".join(f" {a} {b}" for a, b in roads)
    prompt = rng.choice(WORDINGS[lang]).format(roads=told, start=start, goal=goal)
    facts = {"lang": lang, "way": way[: steps + 1], "roads": len(roads)}
    return Problem(prompt, f"path {sorted(roads)} {start} {goal}", str(steps), facts)


def near_misses(problem: Problem) -> list[str]:
    right = int(problem.witness)
    return others(problem, right + 1, right - 1, problem.facts["roads"], " ".join(problem.facts["way"]), f"0{right}")


def work(problem: Problem) -> str:
    """` c f1 f k2`: each road of the way and how many so far."""
    way = problem.facts["way"]
    return "".join(f" {here} {there}{i}" for i, (here, there) in enumerate(zip(way, way[1:]), 1))
