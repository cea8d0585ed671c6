"""Rewriting: apply two rules to a string, always at the leftmost place where one fits, until none does.

Level = the letters of the string less two.  The rules shorten the string or keep its length, and always end.
"""

from nomoat.tasks.base import Problem, Rng, ask, check, others

levels = (1, 2, 3, 4)


def make(rng: Rng, level: int) -> Problem:
    steps: list[str] = []
    while not 2 <= len(steps) <= 6:
        a, b, c = rng.sample("abcdxyz", 3)
        rules = [(a + b, rng.choice((c, b + a))), rng.choice(((c + a, a), (b + c, b), (a + a, a), (b + b, b)))]
        steps = trace("".join(rng.choice((a, b, c)) for _ in range(level + 2)), rules)
    told = ", ".join(f"{left}->{right}" for left, right in rules)
    lang, prompt = ask(rng, "rewriting", rules=told, word=steps[0])
    return Problem(prompt, f"rewriting {told} {steps[0]}", steps[-1], {"lang": lang, "steps": steps})


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
