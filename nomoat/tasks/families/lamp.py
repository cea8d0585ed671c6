"""Lamp: a row of people flips a switch or waits; is the lamp on or off?  A parity chain in words.

Level = the most people.  Up to level 6 rows vary from 1 person, so that short rows teach the step; beyond,
from half the level.  A level holds fewer than 2^(level+2) problems: the levels below 12 are small; judge at
12 or more.
"""

from string import ascii_uppercase

from nomoat.tasks.base import Problem, Rng, check, language, others

levels = (4, 6, 8, 12, 16)

WORDINGS = {
    "en": (
        "A lamp with one switch is{state}.{row}. Is it on or off?",
        "At first the lamp is{state}. Then at its switch:{row}. Is the lamp on or off now?",
        "On or off? The lamp was{state}. At the switch:{row}.",
    ),
    "de": (
        "Eine Lampe mit einem Schalter ist{state}.{row}. Ist sie an oder aus?",
        "Zuerst ist die Lampe{state}. Dann am Schalter:{row}. Ist die Lampe jetzt an oder aus?",
        "An oder aus? Die Lampe war{state}. Am Schalter:{row}.",
    ),
}
STATES = {
    "en": (" off", " on"),
    "de": (" aus", " an"),
}  # with the blank, each is the token that it is in a sentence
ACTIONS = {"en": (" waits", " flips"), "de": (" wartet", " drückt")}


def make(rng: Rng, level: int) -> Problem:
    fewest = 1 if level <= 6 else level // 2
    people = rng.randint(fewest, level)
    flips = [rng.randrange(2) for _ in range(people)]
    start = rng.randrange(2)
    lang = language(rng)
    states, actions = STATES[lang], ACTIONS[lang]
    row = ",".join(f" {who}{actions[flip]}" for who, flip in zip(ascii_uppercase, flips))
    return Problem(
        rng.choice(WORDINGS[lang]).format(state=states[start], row=row),
        f"lamp {start} {flips}",
        states[(start + sum(flips)) % 2],
        {"lang": lang, "start": start, "flips": tuple(flips)},
    )


def near_misses(problem: Problem) -> list[str]:
    lang, other = ("en", "de") if problem.facts["lang"] == "en" else ("de", "en")
    return others(problem, *STATES[lang], *STATES[other], sum(problem.facts["flips"]), "on or off")


def work(problem: Problem) -> str:
    """` off A flips on B waits on`: each step is person, action, state."""
    lang, state = problem.facts["lang"], problem.facts["start"]
    chain = STATES[lang][state]
    for who, flip in zip(ascii_uppercase, problem.facts["flips"]):
        state ^= flip
        chain += f" {who}{ACTIONS[lang][flip]}{STATES[lang][state]}"
    return chain
