"""Counting: how often does a letter occur in a spelled word?

Level = the length.  Up to 8 letters only the counted letter repeats; beyond, all may.  Every level is large.
"""

from string import ascii_lowercase

from nomoat.tasks.base import Problem, Rng, ask, check, others, spaced

levels = (3, 4, 6, 8, 10, 12)

WORDINGS = {
    "en": (
        "How many times does{letter} occur in{word}?",
        "Count the letter{letter} in{word}.",
        "How often is{letter} in the word{word}?",
    ),
    "de": (
        "Wie oft kommt{letter} vor in{word}?",
        "Zähle den Buchstaben{letter} in{word}.",
        "Wie oft steht{letter} im Wort{word}?",
    ),
}


def make(rng: Rng, level: int) -> Problem:
    letter = rng.choice(ascii_lowercase)
    rest = [c for c in ascii_lowercase if c != letter]
    hits = rng.randint(0, min(level, 4))
    draw = rng.sample if level <= 8 else rng.choices
    letters = [letter] * hits + draw(rest, k=level - hits)
    rng.shuffle(letters)
    word = "".join(letters)
    key, facts = f"counting {letter} {word}", {"letter": letter, "word": word}
    return ask(rng, WORDINGS, key, str(hits), facts, letter=f" {letter}", word=spaced(word))


def near_misses(problem: Problem) -> list[str]:
    right, facts = int(problem.witness), problem.facts
    return others(problem, right + 1, right - 1, f"0{right}", facts["letter"], len(facts["word"]) + 1)


def work(problem: Problem) -> str:
    """` t e-0 e e+1 s e-1`: each letter, the counted one, whether they agree, how many so far."""
    counted, count, chain = problem.facts["letter"], 0, ""
    for letter in problem.facts["word"]:
        hit = letter == counted
        count += hit
        chain += f" {letter} {counted}{'+' if hit else '-'}{count}"
    return chain
