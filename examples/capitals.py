"""Capitals: the plural of what is named, in capital letters.

Level 1: a thing, of which there are few.  Level 2: with a word before it.  Level 3: two of these.  In English
alone; without `work`: there is nothing to work out.
"""

import random

from nomoat.tasks.base import Problem, bare, others

levels = (1, 2, 3)

NOUNS = (
    "apple bag ball bank bear bed bell belt berry bird boat bone book boot bottle box bridge brush bus "
    "bush button cake camel candle cap car carpet castle cat chair cherry church city clock cloud coat "
    "coin cow cup desk dish dog doll donkey door dress drum duck eagle egg engine farm field flag "
    "flower forest fork fox frog garden gate glass glove goat guitar hammer hat hill horse house island "
    "jacket jar key kite lady lake lamp lemon letter lion map match melon mirror monkey mountain needle "
    "nest nurse ocean onion orange owl page paper party peach pear pen pencil piano picture pig pillow "
    "plane plate pocket pony puppy queen rabbit river road roof room rope rose school shell ship shirt "
    "shoe shop sock song spoon star stone story street table tent tiger torch tower town train tree "
    "truck turtle umbrella valley violin wall watch wheel window witch"
).split()
KINDS = (
    "big black blue bright broken brown clean cold cheap dark dirty dry empty fast flat green grey "
    "heavy high hot large light little long lost new nice old orange pink poor quiet red rich round "
    "short slow small soft strange strong tall thin tiny ugly warm wet white wide wild yellow young"
).split()
WORDINGS = (
    "Write the plural of {thing} in capital letters.",
    "What is the plural of {thing}? Answer in capital letters.",
    "{thing}: the plural, in capital letters?",
)


def plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def make(rng: random.Random, level: int) -> Problem:
    one = []
    many = []
    for noun in rng.sample(NOUNS, max(level - 1, 1)):
        kind = f"{rng.choice(KINDS)} " if level > 1 else ""
        one.append(kind + noun)
        many.append(kind + plural(noun))
    asked = " and ".join(one)
    right = " and ".join(many).upper()
    prompt = rng.choice(WORDINGS).format(thing=f'"{asked}"')
    return Problem(prompt, f"capitals {asked}", right, {"lang": "en", "one": asked})


def check(problem: Problem, answer: str) -> bool:
    return bare(answer) == problem.witness


def near_misses(problem: Problem) -> list[str]:
    """Not the plural, or not in capitals; `others` knows no case, so that it takes what differs otherwise."""
    right = problem.witness
    return [right.lower(), right.capitalize(), *others(problem, problem.facts["one"].upper(), f"{right}S")]
