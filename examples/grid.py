"""Grid: fill the blanks of a 4x4 sudoku, whose rows, columns and quarters hold 1 to 4.

Level = the number of blanks.
The answer lists the blanks in reading order; every grid has one solution.
"""

import random

from nomoat.tasks.base import Problem, ask, others, same

Place = tuple[int, int]
Grid = dict[Place, str]

levels = (1, 2, 3, 4, 5)

WORDINGS = {
    "en": (
        "Sudoku 4x4, fill the dots in order: {grid}",
        "Rows, columns and quarters hold 1 to 4. What are the dots? {grid}",
    ),
    "de": (
        "Sudoku 4x4, fülle die Punkte der Reihe nach: {grid}",
        "Zeilen, Spalten und Viertel enthalten 1 bis 4. Was sind die Punkte? {grid}",
    ),
}
PLACES = [(r, c) for r in range(4) for c in range(4)]


def make(rng: random.Random, level: int) -> Problem:
    full = filled(rng)
    blanks: list[Place] = []
    while len(solve(full, blanks)) != 1 or not blanks:
        blanks = sorted(rng.sample(PLACES, level))
    grid = drawn_grid(full, blanks)
    witness = "".join(full[place] for place in blanks)
    return ask(rng, WORDINGS, f"grid {grid}", witness, {"blanks": blanks, "full": full}, grid=grid)


def drawn_grid(full: Grid, blanks: list[Place]) -> str:
    shown = {place: "." if place in blanks else full[place] for place in PLACES}
    return " ".join("".join(shown[r, c] for c in range(4)) for r in range(4))


def filled(rng: random.Random) -> Grid:
    """A grid without blanks."""
    digits, flip = rng.sample("1234", 4), rng.randrange(2)
    rows, columns = shuffled(rng), shuffled(rng)
    full = {(r, c): digits[(rows[r] * 2 + rows[r] // 2 + columns[c]) % 4] for r, c in PLACES}
    return {(r, c): full[(c, r) if flip else (r, c)] for r, c in PLACES}


def shuffled(rng: random.Random) -> list[int]:
    """0 to 3 with the halves and what is in them in any order."""
    halves = rng.sample([(0, 1), (2, 3)], 2)
    return [n for half in halves for n in rng.sample(half, 2)]


def seen(full: Grid, place: Place, blanks: list[Place]) -> set[str]:
    """The digits that a place can't be."""
    return {full[p] for p in PLACES if p != place and p not in blanks and meet(p, place)}


def meet(a: Place, b: Place) -> bool:
    """Whether they share a row, a column or a quarter."""
    return a[0] == b[0] or a[1] == b[1] or (a[0] // 2, a[1] // 2) == (b[0] // 2, b[1] // 2)


def solve(full: Grid, blanks: list[Place]) -> list[Grid]:
    """Every way to fill the blanks."""
    if not blanks:
        return [full]
    first, *rest = blanks
    free = set("1234") - seen(full, first, blanks)
    return [way for d in sorted(free) for way in solve({**full, first: d}, rest)]


def check(problem: Problem, answer: str) -> bool:
    return same(answer, problem.witness) or same(answer, " ".join(problem.witness))


def near_misses(problem: Problem) -> list[str]:
    w = problem.witness
    wrong = [w[:-1] + d for d in "1234"]
    return others(problem, *wrong, w + w[0], " ".join(w) + " 1", w[::-1] if w[::-1] != w else "0")


def work(problem: Problem) -> str:
    """`134-2,24-... :21`: the digits that each blank sees, those before it filled, and what it is."""
    full, blanks = problem.facts["full"], problem.facts["blanks"]
    steps = []
    for i, place in enumerate(blanks):
        digits = sorted(seen(full, place, blanks[i:]))
        steps.append(f"{''.join(digits)}-{full[place]}")
    return ",".join(steps) + f":{problem.witness}"
