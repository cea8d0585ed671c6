"""Reversing: write a spelled word backwards.

Level = the length.  Up to 6 letters all differ; beyond, they may repeat.  Every level is large.
"""

from string import ascii_lowercase

from nomoat.tasks.base import Problem, Rng, ask, check, others

levels = (3, 4, 5, 6, 7, 8)

spaced = lambda letters: "".join(f" {letter}" for letter in letters)


def make(rng: Rng, level: int) -> Problem:
    word = "".join(rng.sample(ascii_lowercase, level) if level <= 6 else rng.choices(ascii_lowercase, k=level))
    lang, prompt = ask(rng, "reversing", word=spaced(word))
    return Problem(prompt, f"reversing {word}", spaced(word[::-1]), {"lang": lang, "word": word})


def near_misses(problem: Problem) -> list[str]:
    word = problem.facts["word"]
    back = word[::-1]
    return others(problem, *map(spaced, (word, back[:-1], back[1:], back + back[-1], back[1:] + back[0])), back)


def work(problem: Problem) -> str:
    """` h1 a2 u3 s4: s u a h`: each letter with its place, then the places from the end."""
    return "".join(f" {c}{i}" for i, c in enumerate(problem.facts["word"], 1)) + ":" + problem.witness
