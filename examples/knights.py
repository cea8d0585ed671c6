"""Knights and knaves: knights tell the truth, knaves lie; who is a knight?  Level = the number of people
less two.

The answer names the knights, in any order.  Every puzzle has exactly one solution and at least one knight.
Level 1 holds 36 problems: small.
"""

import itertools
import random

from nomoat.tasks.base import Problem, language, others

levels = (1, 2, 3)

NAMES = "abcde"
SAYS = {
    "en": {"knight": "{who} says: {x} is a knight", "knave": "{who} says: {x} is a knave",
           "same": "{who} says: {x} and {y} are alike"},
    "de": {"knight": "{who} sagt: {x} ist ein Ritter", "knave": "{who} sagt: {x} ist ein Lügner",
           "same": "{who} sagt: {x} und {y} sind gleich"},
}
WORDINGS = {
    "en": ("Knights tell the truth, knaves lie. {told}. Who are the knights, with spaces?",
           "A knight never lies, a knave always does. {told}. Name the knights, with spaces."),
    "de": ("Ritter sagen die Wahrheit, Lügner nie. {told}. Wer sind die Ritter, mit Leerzeichen?",
           "Ein Ritter lügt nie, ein Lügner immer. {told}. Nenne die Ritter, mit Leerzeichen."),
}  # fmt: skip


def make(rng: random.Random, level: int) -> Problem:
    n = level + 2
    solutions: list[tuple[int, ...]] = []
    while len(solutions) != 1 or not any(solutions[0]):
        claims = []
        for who in range(n):
            x, y = rng.sample([i for i in range(n) if i != who], 2)
            kind = rng.choice(("knight", "knave", "same"))
            claims.append((who, kind, *((x, x) if kind != "same" else sorted((x, y)))))
        states = itertools.product((0, 1), repeat=n)
        solutions = [state for state in states if all(holds(state, claim) == bool(state[claim[0]]) for claim in claims)]
    lang = language(rng)
    told = ". ".join(SAYS[lang][kind].format(who=NAMES[w], x=NAMES[x], y=NAMES[y]) for w, kind, x, y in claims)
    knights = [NAMES[i] for i in range(n) if solutions[0][i]]
    facts = {"lang": lang, "claims": claims, "state": solutions[0]}
    return Problem(rng.choice(WORDINGS[lang]).format(told=told), f"knights {claims}", " " + " ".join(knights), facts)


def holds(state: tuple[int, ...], claim: tuple[int, str, int, int]) -> bool:
    _, kind, x, y = claim
    return {"knight": state[x] == 1, "knave": state[x] == 0, "same": state[x] == state[y]}[kind]


def check(problem: Problem, answer: str) -> bool:
    if len(answer) > 200 or not answer.isascii():
        return False
    words = answer.strip(" \t\r\n").removesuffix(".").lower().split(" ")
    return len(set(words)) == len(words) and sorted(words) == sorted(problem.witness.split())


def near_misses(problem: Problem) -> list[str]:
    state = problem.facts["state"]
    flipped = [" ".join(NAMES[j] for j in range(len(state)) if state[j] ^ (i == j)) for i in range(len(state))]
    return others(problem, *filter(None, flipped), problem.witness.strip() + " " + problem.witness.strip()[0], "x", "1", "all")


def work(problem: Problem) -> str:
    """` a 1 b 0: a knave b 1, ...: a`: the solution as 0 and 1, and each claim under it."""
    state, claims = problem.facts["state"], problem.facts["claims"]
    named = " ".join(f"{NAMES[i]} {s}" for i, s in enumerate(state))
    checked = ", ".join(f"{NAMES[c[0]]} {c[1]} {int(holds(state, c))}" for c in claims)
    return f"{named}; {checked}:{problem.witness}"
