"""Lamp: a row of people flips a switch or waits; is the lamp on or off?  A parity chain in words.

Level = the most people.  Up to level 6 rows vary from 1 person, so that short rows teach the step; beyond, from half
the level.  A level holds fewer than 2^(level+2) problems: the levels below 12 are small; judge at 12 and above.
"""

from string import ascii_uppercase

from nomoat.tasks.base import Problem, Rng, check, language, others, words

levels = (4, 6, 8, 12, 16)


def make(rng: Rng, level: int) -> Problem:
    flips = [rng.randrange(2) for _ in range(rng.randint(1 if level <= 6 else level // 2, level))]
    start = rng.randrange(2)
    lang = language(rng)
    says = words("lamp", lang)
    row = ",".join(f" {who}{says['actions'][flip]}" for who, flip in zip(ascii_uppercase, flips))
    prompt = rng.choice(says["ask"]).format(state=says["states"][start], row=row)
    witness = says["states"][(start + sum(flips)) % 2]
    return Problem(prompt, f"lamp {start} {flips}", witness, {"lang": lang, "start": start, "flips": tuple(flips)})


def near_misses(problem: Problem) -> list[str]:
    order = ("en", "de") if problem.facts["lang"] == "en" else ("de", "en")
    states = [state for lang in order for state in words("lamp", lang)["states"]]
    return others(problem, *states, sum(problem.facts["flips"]), "on or off")


def work(problem: Problem) -> str:
    """` off A flips on B waits on`: each step is person, action, state."""
    says, state = words("lamp", problem.facts["lang"]), problem.facts["start"]
    chain = says["states"][state]
    for who, flip in zip(ascii_uppercase, problem.facts["flips"]):
        state ^= flip
        chain += f" {who}{says['actions'][flip]}{says['states'][state]}"
    return chain
