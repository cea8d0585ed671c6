"""Path: how many one-way roads lead from one place to another?

Level = the most roads on the way.  At most one road leaves a place, so the way is the shortest; further roads lead on
from the goal or elsewhere.  Every level is large.
"""

from nomoat.tasks.base import Problem, Rng, ask, check, others

levels = (2, 3, 4, 5, 6, 7)

PLACES = "bcdefghjklmnopqrstuvwxyz"  # no "a" and no "i": words in English


def make(rng: Rng, level: int) -> Problem:
    steps = rng.randint(1, level)
    beyond, elsewhere = rng.randint(0, 2), rng.randint(1, 3)
    places = rng.sample(PLACES, steps + beyond + 1 + elsewhere + 1)
    way, aside = places[: steps + beyond + 1], places[steps + beyond + 1 :]
    roads = [*zip(way, way[1:]), *zip(aside, aside[1:])]
    rng.shuffle(roads)
    start, goal = way[0], way[steps]
    told = ",".join(f" {a} {b}" for a, b in roads)
    lang, prompt = ask(rng, "path", roads=told, start=start, goal=goal)
    facts = {"lang": lang, "way": way[: steps + 1], "roads": len(roads)}
    return Problem(prompt, f"path {sorted(roads)} {start} {goal}", str(steps), facts)


def near_misses(problem: Problem) -> list[str]:
    right = int(problem.witness)
    return others(problem, right + 1, right - 1, problem.facts["roads"], " ".join(problem.facts["way"]), f"0{right}")


def work(problem: Problem) -> str:
    """` c f1 f k2`: each road of the way and how many so far."""
    way = problem.facts["way"]
    return "".join(f" {here} {there}{i}" for i, (here, there) in enumerate(zip(way, way[1:]), 1))
