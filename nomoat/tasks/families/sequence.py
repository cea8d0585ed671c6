"""Sequence: the next number of a row whose rule is named.

Level 1: the same added each time.  Level 2: multiplied by the same.  Level 3: the added number grows by the same.
Level 4: two rows of level 1 in turn.
"""

from nomoat.tasks.base import Problem, Rng, check, language, others, words

levels = (1, 2, 3, 4)


def make(rng: Rng, level: int) -> Problem:
    a, d = rng.randint(1, 40), rng.randint(2, 12)
    e, f = rng.randint(1, 40), rng.randint(2, 12)
    if level == 1:
        row = [a + d * i for i in range(5)]
    elif level == 2:
        a, d = rng.randint(1, 30), rng.randint(2, 5)
        row = [a * d**i for i in range(5)]
    elif level == 3:
        row = [a + d * i + f * i * (i - 1) // 2 for i in range(6)]
    else:
        row = [(a + d * (i // 2)) if i % 2 == 0 else (e + f * (i // 2)) for i in range(7)]
    lang = language(rng)
    told = ", ".join(map(str, row[:-1]))
    says = words("sequence", lang)
    prompt = rng.choice(says["ask"]).format(row=told, rule=says["rules"][level - 1])
    return Problem(prompt, f"sequence {level} {row}", str(row[-1]), {"lang": lang, "row": row, "level": level})


def near_misses(problem: Problem) -> list[str]:
    *row, right = problem.facts["row"]
    return others(problem, right + 1, right - 1, row[-1], right + row[-1], f"{row[-1]}, {right}", f"{right}.0")


def work(problem: Problem) -> str:
    """`7-3=4, 11-7=4, 11+4=15: 15`: what the rule's number is, then its next use."""
    *row, right = problem.facts["row"]
    level = problem.facts["level"]
    if level == 2:
        return f"{row[1]}/{row[0]}={row[1] // row[0]}, {row[-1]}*{row[1] // row[0]}={right}: {right}"
    mine = row[::2] if level == 4 else row
    read = {3: [b - a for a, b in zip(row, row[1:])]}.get(level, mine)
    named = f"{' '.join(map(str, read))}, " if level > 2 else ""
    return f"{named}{read[1]}-{read[0]}={read[1] - read[0]}, {mine[-1]}+{right - mine[-1]}={right}: {right}"
