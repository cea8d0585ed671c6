"""Sorting: put distinct letters into alphabetical order.

Level = the number of letters.  Level 3 holds 2,600 problems (sets of letters), the others 14,950 and more.
"""

from string import ascii_lowercase

from nomoat.tasks.base import Problem, Rng, ask, check, others, spaced

levels = (3, 4, 5, 6, 7, 8)

WORDINGS = {
    "en": (
        "Sort these letters, with spaces:{letters}",
        "Put in alphabetical order, with spaces:{letters}",
        "Write in the order of the alphabet, with spaces:{letters}",
    ),
    "de": (
        "Sortiere diese Buchstaben, mit Leerzeichen:{letters}",
        "Ordne nach dem Alphabet, mit Leerzeichen:{letters}",
        "Schreibe in der Reihenfolge des Alphabets, mit Leerzeichen:{letters}",
    ),
}


def make(rng: Rng, level: int) -> Problem:
    letters = "".join(rng.sample(ascii_lowercase, level))
    ordered = "".join(sorted(letters))
    facts = {"letters": letters}
    return ask(rng, WORDINGS, f"sorting {ordered}", spaced(ordered), facts, letters=spaced(letters))


def near_misses(problem: Problem) -> list[str]:
    right = "".join(sorted(problem.facts["letters"]))
    swapped = right[:-2] + right[-1] + right[-2]
    wrong = (problem.facts["letters"], right[::-1], right[:-1], right[1:], swapped)
    return others(problem, *map(spaced, wrong), right)


def work(problem: Problem) -> str:
    """` d3 a1 b2: a b d`: each letter with its place, then the places in turn."""
    right = sorted(problem.facts["letters"])
    return "".join(f" {c}{right.index(c) + 1}" for c in problem.facts["letters"]) + ":" + problem.witness
