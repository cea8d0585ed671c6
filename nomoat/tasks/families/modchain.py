"""Modchain: a dial with the digits 0 to 9 is turned up and down; what does it show?

Level = the number of turns.  Level 1 holds 180 problems, level 2 holds 3,240: small; the others are large.
"""

from string import ascii_uppercase

from nomoat.tasks.base import Problem, Rng, ask, check, others

levels = (1, 2, 3, 4, 6, 8)

WORDINGS = {
    "en": (
        "A dial from 0 to 9 goes round and shows {start}. Turns:{turns}. What does it show?",
        "A counter shows {start}; after 9 comes 0. Turns:{turns}. What does the counter show?",
        "After 9 comes 0. Start at {start} and count:{turns}. Where do you end?",
    ),
    "de": (
        "Ein Rad von 0 bis 9 läuft im Kreis und zeigt {start}. Züge:{turns}. Was zeigt es?",
        "Ein Zähler zeigt {start}; nach 9 kommt 0. Züge:{turns}. Was zeigt der Zähler?",
        "Nach 9 kommt 0. Beginne bei {start} und zähle:{turns}. Wo endest du?",
    ),
}


def make(rng: Rng, level: int) -> Problem:
    start = rng.randrange(10)
    turns = tuple(rng.choice((-1, 1)) * rng.randint(1, 9) for _ in range(level))
    listed = ",".join(f" {who}{turn:+d}" for who, turn in zip(ascii_uppercase, turns))
    key, facts = f"modchain {start} {turns}", {"start": start, "turns": turns}
    return ask(rng, WORDINGS, key, str((start + sum(turns)) % 10), facts, start=start, turns=listed)


def near_misses(problem: Problem) -> list[str]:
    right = int(problem.witness)
    return others(
        problem, (right + 1) % 10, (right - 1) % 10, right + 10, right - 10, f"0{right}", f"+{right}"
    )


def work(problem: Problem) -> str:
    """` A07+5=12 B12-3=09`: name, state (ten more before a minus), turn; the last digit is the new state."""
    state = problem.facts["start"]
    chain = ""
    for who, turn in zip(ascii_uppercase, problem.facts["turns"]):
        before = state + 10 * (turn < 0)
        chain += f" {who}{before:02d}{turn:+d}={before + turn:02d}"
        state = (before + turn) % 10
    return chain
