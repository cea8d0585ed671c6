"""Editing: change a row of letters as told, step by step.  Level = the number of changes."""

import random
from string import ascii_lowercase

from nomoat.tasks.base import Problem, check, language, others

levels = (1, 2, 3, 4)

TOLD = {
    "en": {"drop": "delete the {x}", "swap": "replace {x} by {y}", "front": "put {y} in front", "end": "put {y} at the end"},
    "de": {"drop": "lösche das {x}", "swap": "ersetze {x} durch {y}", "front": "setze {y} nach vorn",
           "end": "setze {y} ans Ende"},
}
WORDINGS = {
    "en": ("Take{row}. Now {changes}. What is it, with spaces?", "Change, with spaces,{row}: {changes}."),
    "de": ("Nimm{row}. Nun {changes}. Was ist es, mit Leerzeichen?", "Ändere, mit Leerzeichen,{row}: {changes}."),
}
THEN = {"en": ", then ", "de": ", dann "}
spell = lambda letters: "".join(f" {c}" for c in letters)


def make(rng: random.Random, level: int) -> Problem:
    pool = rng.sample(ascii_lowercase, 4 + level + level)
    row, fresh = pool[: 4 + level // 2], pool[4 + level // 2 :]
    states, changes = [list(row)], []
    for _ in range(level):
        before = states[-1]
        kind, x, y = rng.choice(list(TOLD["en"])), rng.choice(before), fresh.pop()
        after = {"drop": [c for c in before if c != x], "swap": [y if c == x else c for c in before],
                 "front": [y, *before], "end": [*before, y]}[kind]  # fmt: skip
        states.append(after)
        changes.append((kind, x, y))
    lang = language(rng)
    told = THEN[lang].join(TOLD[lang][kind].format(x=x, y=y) for kind, x, y in changes)
    prompt = rng.choice(WORDINGS[lang]).format(row=spell(row), changes=told)
    steps = " ".join({"drop": f"-{x}", "swap": f"{x}{y}", "front": f"{y}<", "end": f"{y}>"}[kind] for kind, x, y in changes)
    return Problem(prompt, f"editing {''.join(row)} {steps}", spell(states[-1]), {"lang": lang, "states": states})


def near_misses(problem: Problem) -> list[str]:
    letters = problem.witness.split()
    earlier = [spell(state) for state in problem.facts["states"][:-1]]
    return others(problem, *earlier, "".join(letters), spell(letters[::-1]), spell(letters[:-1]), spell([*letters, letters[0]]))


def work(problem: Problem) -> str:
    """` b c d, b c x: b c x`: the row after each change."""
    return ",".join(spell(state) for state in problem.facts["states"][1:]) + f":{problem.witness}"
