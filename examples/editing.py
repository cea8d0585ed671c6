"""Editing: change a row of letters as told, step by step.  Level = the number of changes."""

import random
from string import ascii_lowercase

from nomoat.tasks.base import Problem, check, language, others, spaced

levels = (1, 2, 3, 4)

CHANGES = {
    "en": {
        "drop": "delete the {x}",
        "swap": "replace {x} by {y}",
        "front": "put {y} in front",
        "end": "put {y} at the end",
    },
    "de": {
        "drop": "lösche das {x}",
        "swap": "ersetze {x} durch {y}",
        "front": "setze {y} nach vorn",
        "end": "setze {y} ans Ende",
    },
}
SIGNS = {"drop": "-{x}", "swap": "{x}{y}", "front": "{y}<", "end": "{y}>"}
WORDINGS = {
    "en": ("Take{row}. Now {changes}. What is it, with spaces?", "Change, with spaces,{row}: {changes}."),
    "de": (
        "Nimm{row}. Nun {changes}. Was ist es, mit Leerzeichen?",
        "Ändere, mit Leerzeichen,{row}: {changes}.",
    ),
}
THEN = {"en": ", then ", "de": ", dann "}


def make(rng: random.Random, level: int) -> Problem:
    length = 4 + level // 2
    pool = rng.sample(ascii_lowercase, 4 + level + level)
    row = pool[:length]
    changes, states = drawn_changes(rng, row, pool[length:], level)
    lang = language(rng)
    sentences = [CHANGES[lang][kind].format(x=x, y=y) for kind, x, y in changes]
    steps = " ".join(SIGNS[kind].format(x=x, y=y) for kind, x, y in changes)
    return Problem(
        rng.choice(WORDINGS[lang]).format(row=spaced(row), changes=THEN[lang].join(sentences)),
        f"editing {''.join(row)} {steps}",
        spaced(states[-1]),
        {
            "lang": lang,
            "states": states,
        },
    )


def drawn_changes(rng: random.Random, row: list[str], fresh: list[str], n: int) -> tuple[list, list]:
    """(changes, the row before and after each)."""
    changes, states = [], [row]
    for _ in range(n):
        change = rng.choice(list(SIGNS)), rng.choice(row), fresh.pop()
        row = changed(row, *change)
        changes.append(change)
        states.append(row)
    return changes, states


def changed(row: list[str], kind: str, x: str, y: str) -> list[str]:
    if kind == "drop":
        return [c for c in row if c != x]
    if kind == "swap":
        return [y if c == x else c for c in row]
    return [y, *row] if kind == "front" else [*row, y]


def near_misses(problem: Problem) -> list[str]:
    letters = problem.witness.split()
    earlier = [spaced(state) for state in problem.facts["states"][:-1]]
    wrong = (letters[::-1], letters[:-1], [*letters, letters[0]])
    return others(problem, *earlier, "".join(letters), *map(spaced, wrong))


def work(problem: Problem) -> str:
    """` b c d, b c x: b c x`: the row after each change."""
    return ",".join(spaced(state) for state in problem.facts["states"][1:]) + f":{problem.witness}"
