"""Knights and knaves: knights tell the truth, knaves lie; who is a knight?

Level = the number of people less two.
The answer names the knights, in any order.  Every puzzle has exactly one solution and at least one knight.
Level 1 holds 36 problems: small.
"""

import itertools
import random

from nomoat.tasks.base import Problem, language, others

levels = (1, 2, 3)

NAMES = "abcde"
SAYS = {
    "en": {
        "knight": "{who} says: {x} is a knight",
        "knave": "{who} says: {x} is a knave",
        "same": "{who} says: {x} and {y} are alike",
    },
    "de": {
        "knight": "{who} sagt: {x} ist ein Ritter",
        "knave": "{who} sagt: {x} ist ein Lügner",
        "same": "{who} sagt: {x} und {y} sind gleich",
    },
}
WORDINGS = {
    "en": (
        "Knights tell the truth, knaves lie. {claims}. Who are the knights, with spaces?",
        "A knight never lies, a knave always does. {claims}. Name the knights, with spaces.",
    ),
    "de": (
        "Ritter sagen die Wahrheit, Lügner nie. {claims}. Wer sind die Ritter, mit Leerzeichen?",
        "Ein Ritter lügt nie, ein Lügner immer. {claims}. Nenne die Ritter, mit Leerzeichen.",
    ),
}


def make(rng: random.Random, level: int) -> Problem:
    n = level + 2
    solutions: list[tuple[int, ...]] = []
    while len(solutions) != 1 or not any(solutions[0]):
        claims = [drawn_claim(rng, who, n) for who in range(n)]
        states = itertools.product((0, 1), repeat=n)
        solutions = [state for state in states if consistent(state, claims)]
    lang = language(rng)
    sentences = []
    for who, kind, x, y in claims:
        sentences.append(SAYS[lang][kind].format(who=NAMES[who], x=NAMES[x], y=NAMES[y]))
    (state,) = solutions
    return Problem(
        rng.choice(WORDINGS[lang]).format(claims=". ".join(sentences)),
        f"knights {claims}",
        "".join(f" {name}" for name, knight in zip(NAMES, state) if knight),
        {"lang": lang, "claims": claims, "state": state},
    )


def drawn_claim(rng: random.Random, who: int, n: int) -> tuple[int, str, int, int]:
    x, y = rng.sample([i for i in range(n) if i != who], 2)
    kind = rng.choice(("knight", "knave", "same"))
    return (who, kind, min(x, y), max(x, y)) if kind == "same" else (who, kind, x, x)


def consistent(state: tuple[int, ...], claims: list[tuple[int, str, int, int]]) -> bool:
    """Whether knights, and they alone, say what holds."""
    return all(holds(state, claim) == bool(state[claim[0]]) for claim in claims)


def holds(state: tuple[int, ...], claim: tuple[int, str, int, int]) -> bool:
    _, kind, x, y = claim
    return {"knight": state[x] == 1, "knave": state[x] == 0, "same": state[x] == state[y]}[kind]


def check(problem: Problem, answer: str) -> bool:
    if len(answer) > 200 or not answer.isascii():
        return False
    words = answer.strip(" \t\r\n").removesuffix(".").lower().split(" ")
    return len(set(words)) == len(words) and sorted(words) == sorted(problem.witness.split())


def near_misses(problem: Problem) -> list[str]:
    state, right = problem.facts["state"], problem.witness.strip()
    flipped = []
    for i in range(len(state)):
        flipped.append(" ".join(NAMES[j] for j in range(len(state)) if state[j] ^ (i == j)))
    return others(problem, *filter(None, flipped), f"{right} {right[0]}", "x", "1", "all")


def work(problem: Problem) -> str:
    """` a 1 b 0: a knave b 1, ...: a`: the solution as 0 and 1, and each claim under it."""
    state, claims = problem.facts["state"], problem.facts["claims"]
    named = " ".join(f"{NAMES[i]} {s}" for i, s in enumerate(state))
    checked = ", ".join(f"{NAMES[c[0]]} {c[1]} {int(holds(state, c))}" for c in claims)
    return f"{named}; {checked}:{problem.witness}"
