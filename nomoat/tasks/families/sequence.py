"""Sequence: the next number of a row whose rule is named.

Level 1: the same added each time.  Level 2: multiplied by the same.  Level 3: the added number grows by the
same. Level 4: two rows of level 1 in turn.
"""

import itertools

from nomoat.tasks.base import Problem, Rng, check, language, others

levels = (1, 2, 3, 4)

WORDINGS = {
    "en": ("{row}: {rule}. What comes next?", "Continue ({rule}): {row}"),
    "de": ("{row}: {rule}. Was kommt als Nächstes?", "Setze fort ({rule}): {row}"),
}
RULES = {
    "en": (
        "each adds the same",
        "each multiplies by the same",
        "what is added grows by the same",
        "two rows in turn, each adds the same",
    ),
    "de": (
        "es kommt immer gleich viel dazu",
        "es wird immer mit derselben Zahl malgenommen",
        "was dazukommt, wächst gleichmäßig",
        "zwei Reihen im Wechsel, in jeder kommt gleich viel dazu",
    ),
}


def make(rng: Rng, level: int) -> Problem:
    row = drawn_row(rng, level)
    lang = language(rng)
    shown = ", ".join(map(str, row[:-1]))
    prompt = rng.choice(WORDINGS[lang]).format(row=shown, rule=RULES[lang][level - 1])
    facts = {"lang": lang, "row": row, "level": level}
    return Problem(prompt, f"sequence {level} {row}", str(row[-1]), facts)


def drawn_row(rng: Rng, level: int) -> list[int]:
    a, d = rng.randint(1, 40), rng.randint(2, 12)
    e, f = rng.randint(1, 40), rng.randint(2, 12)
    if level == 1:
        return evenly(a, d, 5)
    if level == 2:
        a = rng.randint(1, 30)
        d = rng.randint(2, 5)
        return [a * d**i for i in range(5)]
    if level == 3:
        return list(itertools.accumulate(evenly(d, f, 5), initial=a))
    row = [0] * 7
    row[::2] = evenly(a, d, 4)
    row[1::2] = evenly(e, f, 3)
    return row


def evenly(first: int, step: int, n: int) -> list[int]:
    return [first + step * i for i in range(n)]


def near_misses(problem: Problem) -> list[str]:
    *row, right = problem.facts["row"]
    return others(
        problem, right + 1, right - 1, row[-1], right + row[-1], f"{row[-1]}, {right}", f"{right}.0"
    )


def work(problem: Problem) -> str:
    """`7-3=4, 11-7=4, 11+4=15: 15`: what the rule's number is, then its next use."""
    *row, right = problem.facts["row"]
    level = problem.facts["level"]
    if level == 2:
        first, second, *_, last = row
        factor = second // first
        return f"{second}/{first}={factor}, {last}*{factor}={right}: {right}"
    if level == 4:
        row = row[::2]
    read = [b - a for a, b in itertools.pairwise(row)] if level == 3 else row
    named = ""
    if level > 2:
        named = " ".join(map(str, read)) + ", "
    first, second, *_ = read
    *_, last = row
    rule = f"{second}-{first}={second - first}"
    use = f"{last}+{right - last}={right}"
    return f"{named}{rule}, {use}: {right}"
