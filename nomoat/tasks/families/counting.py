"""Counting: how often does a letter occur in a spelled word?

Level = the length.  Up to 8 letters only the counted letter repeats; beyond, all may.  Every level is large.
"""

from string import ascii_lowercase

from nomoat.tasks.base import Problem, Rng, ask, check, others

levels = (3, 4, 6, 8, 10, 12)


def make(rng: Rng, level: int) -> Problem:
    letter = rng.choice(ascii_lowercase)
    rest = [c for c in ascii_lowercase if c != letter]
    hits = rng.randint(0, min(level, 4))
    word = [letter] * hits + (rng.sample(rest, level - hits) if level <= 8 else rng.choices(rest, k=level - hits))
    rng.shuffle(word)
    lang, prompt = ask(rng, "counting", letter=f" {letter}", word="".join(f" {c}" for c in word))
    key = f"counting {letter} {''.join(word)}"
    return Problem(prompt, key, str(hits), {"lang": lang, "letter": letter, "word": "".join(word)})


def near_misses(problem: Problem) -> list[str]:
    right = int(problem.witness)
    return others(problem, right + 1, right - 1, f"0{right}", problem.facts["letter"], len(problem.facts["word"]) + 1)


def work(problem: Problem) -> str:
    """` t e-0 e e+1 s e-1`: each letter, the counted one, whether they agree, how many so far."""
    count, chain = 0, ""
    for letter in problem.facts["word"]:
        hit = letter == problem.facts["letter"]
        count += hit
        chain += f" {letter} {problem.facts['letter']}{'+' if hit else '-'}{count}"
    return chain
