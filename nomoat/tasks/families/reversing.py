"""Reversing: write a spelled word backwards.

Level = the length.  Up to 6 letters all differ; beyond, they may repeat.  Every level is large.
"""

from string import ascii_lowercase

from nomoat.tasks.base import Problem, Rng, ask, check, others, spaced

levels = (3, 4, 5, 6, 7, 8)

WORDINGS = {
    "en": (
        "Reverse, with spaces:{word}",
        "Write backwards, with spaces:{word}",
        "Spell from the end, with spaces:{word}",
    ),
    "de": (
        "Drehe um, mit Leerzeichen:{word}",
        "Schreibe rückwärts, mit Leerzeichen:{word}",
        "Buchstabiere von hinten, mit Leerzeichen:{word}",
    ),
}


def make(rng: Rng, level: int) -> Problem:
    draw = rng.sample if level <= 6 else rng.choices
    word = "".join(draw(ascii_lowercase, k=level))
    facts = {"word": word}
    return ask(rng, WORDINGS, f"reversing {word}", spaced(word[::-1]), facts, word=spaced(word))


def near_misses(problem: Problem) -> list[str]:
    word = problem.facts["word"]
    back = word[::-1]
    wrong = (word, back[:-1], back[1:], back + back[-1], back[1:] + back[0])
    return others(problem, *map(spaced, wrong), back)


def work(problem: Problem) -> str:
    """` h1 a2 u3 s4: s u a h`: each letter with its place, then the places from the end."""
    return "".join(f" {c}{i}" for i, c in enumerate(problem.facts["word"], 1)) + ":" + problem.witness
