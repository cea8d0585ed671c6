"""Grid: fill the blanks of a 4x4 sudoku, whose rows, columns and quarters hold 1 to 4.  Level = the number
of blanks.

The answer lists the blanks in reading order; every grid has one solution.
"""

import random

from nomoat.tasks.base import Problem, language, others, same

levels = (1, 2, 3, 4, 5)

WORDINGS = {
    "en": ("Sudoku 4x4, fill the dots in order: {grid}",
           "Rows, columns and quarters hold 1 to 4. What are the dots? {grid}"),
    "de": ("Sudoku 4x4, fülle die Punkte der Reihe nach: {grid}",
           "Zeilen, Spalten und Viertel enthalten 1 bis 4. Was sind die Punkte? {grid}"),
}  # fmt: skip
PLACES = [(r, c) for r in range(4) for c in range(4)]


def make(rng: random.Random, level: int) -> Problem:
    digits, flip = rng.sample("1234", 4), rng.randrange(2)
    rows = [r for band in rng.sample([(0, 1), (2, 3)], 2) for r in rng.sample(band, 2)]
    columns = [c for band in rng.sample([(0, 1), (2, 3)], 2) for c in rng.sample(band, 2)]
    full = {(r, c): digits[(rows[r] * 2 + rows[r] // 2 + columns[c]) % 4] for r, c in PLACES}
    full = {(r, c): full[(c, r) if flip else (r, c)] for r, c in PLACES}
    blanks: list[tuple[int, int]] = []
    while len(solve(full, blanks)) != 1 or not blanks:
        blanks = sorted(rng.sample(PLACES, level))
    grid = " ".join("".join("." if (r, c) in blanks else full[r, c] for c in range(4)) for r in range(4))
    lang = language(rng)
    witness = "".join(full[place] for place in blanks)
    facts = {"lang": lang, "blanks": blanks, "full": full}
    return Problem(rng.choice(WORDINGS[lang]).format(grid=grid), f"grid {grid}", witness, facts)


def seen(full: dict[tuple[int, int], str], place: tuple[int, int], blanks: list[tuple[int, int]]) -> set[str]:
    """The digits that a place can't be."""
    r, c = place
    near = [p for p in PLACES if p != place and (p[0] == r or p[1] == c or (p[0] // 2, p[1] // 2) == (r // 2, c // 2))]
    return {full[p] for p in near if p not in blanks}


def solve(full: dict[tuple[int, int], str], blanks: list[tuple[int, int]]) -> list[dict[tuple[int, int], str]]:
    """Every way to fill the blanks."""
    if not blanks:
        return [full]
    free = set("1234") - seen(full, blanks[0], blanks)
    return [found for d in sorted(free) for found in solve({**full, blanks[0]: d}, blanks[1:])]


def check(problem: Problem, answer: str) -> bool:
    return same(answer, problem.witness) or same(answer, " ".join(problem.witness))


def near_misses(problem: Problem) -> list[str]:
    w = problem.witness
    wrong = [w[:-1] + d for d in "1234"]
    return others(problem, *wrong, w + w[0], " ".join(w) + " 1", w[::-1] if w[::-1] != w else "0")


def work(problem: Problem) -> str:
    """`134-2,24-... :21`: the digits that each blank sees, once the blanks before it are filled, and what it is."""
    full, blanks = problem.facts["full"], problem.facts["blanks"]
    steps = [f"{''.join(sorted(seen(full, place, blanks[i:])))}-{full[place]}" for i, place in enumerate(blanks)]
    return ",".join(steps) + f":{problem.witness}"
