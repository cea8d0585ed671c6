"""Path: how many one-way roads lead from one place to another?

Level = the most roads on the way.  At most one road leaves a place, so the way is the shortest; further
roads lead on from the goal or elsewhere.  Every level is large.
"""

import itertools

from nomoat.tasks.base import Problem, Rng, ask, check, others

levels = (2, 3, 4, 5, 6, 7)

WORDINGS = {
    "en": (
        "One-way roads, from and to:{roads}. How many roads lead to {goal} when you start at {start}?",
        "Each pair is a one-way road:{roads}. How many roads to {goal}, starting at {start}?",
    ),
    "de": (
        "Einbahnstraßen, von und nach:{roads}. Wie viele führen nach {goal}, wenn du in {start} beginnst?",
        "Jedes Paar ist eine Einbahnstraße:{roads}. Wie viele Straßen nach {goal}, Start in {start}?",
    ),
}
PLACES = "bcdefghjklmnopqrstuvwxyz"  # no "a" and no "i": words in English


def make(rng: Rng, level: int) -> Problem:
    steps = rng.randint(1, level)
    beyond, elsewhere = rng.randint(0, 2), rng.randint(1, 3)
    length = steps + beyond + 1
    places = rng.sample(PLACES, length + elsewhere + 1)
    way = places[:length]
    aside = places[length:]
    roads = [*itertools.pairwise(way), *itertools.pairwise(aside)]
    rng.shuffle(roads)
    start, goal = way[0], way[steps]
    listed = ",".join(f" {a} {b}" for a, b in roads)
    key, facts = f"path {sorted(roads)} {start} {goal}", {"way": way[: steps + 1], "roads": len(roads)}
    return ask(rng, WORDINGS, key, str(steps), facts, roads=listed, start=start, goal=goal)


def near_misses(problem: Problem) -> list[str]:
    right, facts = int(problem.witness), problem.facts
    return others(problem, right + 1, right - 1, facts["roads"], " ".join(facts["way"]), f"0{right}")


def work(problem: Problem) -> str:
    """` c f1 f k2`: each road of the way and how many so far."""
    roads = itertools.pairwise(problem.facts["way"])
    return "".join(f" {a} {b}{i}" for i, (a, b) in enumerate(roads, 1))
