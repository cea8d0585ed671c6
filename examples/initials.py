"""Initials: the first letters of some words, as one word.

Level = the number of words.  In English alone.
"""

import random

from nomoat.tasks.base import Problem, check, others

levels = (2, 3, 4)

WORDS = (
    "apple arrow autumn basket button candle carpet cloud copper dinner donkey dragon eagle engine evening "
    "feather forest friend garden ginger guitar hammer harbor honey island ivory jacket jungle kettle kitten "
    "ladder lemon letter marble mirror morning needle number ocean orange oven paper pencil pepper queen "
    "quiet rabbit river rocket saddle silver summer table tiger tunnel uncle valley velvet violin water "
    "window winter yellow yogurt zebra zipper"
).split()
WORDINGS = (
    "What are the initials of {words}?",
    "Write the first letter of each word, without blanks: {words}",
    "{words}: the initials?",
)


def make(rng: random.Random, level: int) -> Problem:
    words = rng.sample(WORDS, level)
    right = "".join(word[0] for word in words).upper()
    said = " ".join(words)
    prompt = rng.choice(WORDINGS).format(words=f'"{said}"')
    return Problem(prompt, f"initials {said}", right, {"lang": "en", "words": words})


def near_misses(problem: Problem) -> list[str]:
    right, words = problem.witness, problem.facts["words"]
    seconds = "".join(word[1] for word in words).upper()
    return others(problem, right[:-1], f"{right}A", seconds, " ".join(right), right[:-1] + "X", words[0])


def work(problem: Problem) -> str:
    """`green G, paper P: GP`: each word and its first letter."""
    letters = ", ".join(f"{word} {word[0].upper()}" for word in problem.facts["words"])
    return f"{letters}: {problem.witness}"
