"""Rewriting: apply two rules to a string, always at the leftmost place where one fits, until none does.

Level = the letters of the string less two.  The rules shorten the string or keep its length, and always end.
"""

from nomoat.tasks.base import Problem, Rng, ask, check, others

levels = (1, 2, 3, 4)

WORDINGS = {
    "en": (
        "Rules: {rules}. Rewrite {word}, leftmost first, until no rule fits.",
        "Start with {word}. Replace {rules}, always the leftmost place, as long as one fits. What is left?",
    ),
    "de": (
        "Regeln: {rules}. Schreibe {word} um, immer ganz links zuerst, bis keine Regel passt.",
        "Beginne mit {word}. Ersetze {rules}, immer so weit links wie möglich, solange es geht. Was bleibt?",
    ),
}


def make(rng: Rng, level: int) -> Problem:
    steps = []
    while not 2 <= len(steps) <= 6:
        letters = rng.sample("abcdxyz", 3)
        rules = drawn_rules(rng, *letters)
        word = "".join(rng.choice(letters) for _ in range(level + 2))
        steps = trace(word, rules)
    listed = ", ".join(f"{left}->{right}" for left, right in rules)
    return ask(
        rng,
        WORDINGS,
        f"rewriting {listed} {word}",
        steps[-1],
        {"steps": steps},
        rules=listed,
        word=word,
    )


def drawn_rules(rng: Rng, a: str, b: str, c: str) -> list[tuple[str, str]]:
    swaps_or_melts = (a + b, rng.choice((c, b + a)))
    shortens = rng.choice(((c + a, a), (b + c, b), (a + a, a), (b + b, b)))
    return [swaps_or_melts, shortens]


def trace(word: str, rules: list[tuple[str, str]]) -> list[str]:
    """The word after each step; nothing if it doesn't end soon."""
    steps = [word]
    while len(steps) < 12:
        places = [(word.find(left), left, right) for left, right in rules if left in word]
        if not places:
            return steps
        place, left, right = min(places)
        word = word[:place] + right + word[place + len(left) :]
        steps.append(word)
    return []


def near_misses(problem: Problem) -> list[str]:
    steps = problem.facts["steps"]
    return others(problem, *steps[:-1], steps[-1] + "a", steps[-1][1:] + "zz", "->".join(steps))


def work(problem: Problem) -> str:
    """`xab xc x: x`: the string after each step."""
    return " ".join(problem.facts["steps"]) + ": " + problem.witness
