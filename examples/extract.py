"""Extract: what a sentence says of somebody, as JSON by a schema.

Level = the number of keys that the schema asks for.  In English alone; without `work`: it stands there.
"""

import json
import random
from collections.abc import Mapping

from nomoat.tasks.base import Problem, others

levels = (1, 2, 3, 4)
form = "text"

NAMES = "Ada Ben Carla Dan Emma Finn Greta Hugo Ida Jonas Kira Leo Mia Nora Otto Paula Rosa Tom".split()
FAMILY = "Adams Brown Clark Diaz Evans Fisher Green Hall Jones King Lee Moore Novak Patel Reed Wood".split()
CITIES = "Oslo Paris Rome Madrid Lisbon Vienna Berlin Prague Athens Dublin Cairo Lima Tokyo Boston".split()
JOBS = "baker doctor driver farmer lawyer nurse painter pilot singer teacher tailor waiter writer".split()
SCHEMA = {"name": "string", "age": "integer", "city": "string", "job": "string"}
SENTENCES = (
    "{name}, {age}, works as a {job} in {city}.",
    "In {city} lives {name}, a {job} of {age} years.",
    "{name} is a {job} from {city} and is {age} years old.",
    "The {job} {name} ({age}) moved to {city}.",
)
WORDINGS = (
    "Extract JSON with {schema} from: {text}",
    "{text} Write {schema} as JSON.",
    "Fill the JSON schema {schema} from this sentence: {text}",
)


def make(rng: random.Random, level: int) -> Problem:
    said = {
        "name": f"{rng.choice(NAMES)} {rng.choice(FAMILY)}",
        "age": rng.randrange(18, 90),
        "city": rng.choice(CITIES),
        "job": rng.choice(JOBS),
    }
    keys = sorted(rng.sample(list(SCHEMA), level), key=list(SCHEMA).index)
    wanted = {key: said[key] for key in keys}
    schema = ", ".join(f"{key} ({SCHEMA[key]})" for key in keys)
    text = rng.choice(SENTENCES).format(**said)
    return Problem(
        rng.choice(WORDINGS).format(schema=schema, text=text),
        f"extract {json.dumps(said)} {keys}",
        json.dumps(wanted),
        {"lang": "en", "wanted": wanted},
    )


def check(problem: Problem, answer: str) -> bool:
    """Whether the answer is an object with these keys and no others, each of the right type."""
    if len(answer) > 300 or answer.count("{") != 1 or "[" in answer:
        return False
    try:
        pairs = json.loads(answer.strip(), object_pairs_hook=list)
    except (ValueError, RecursionError):
        return False
    wanted = problem.facts["wanted"]
    if not isinstance(pairs, list) or len(pairs) != len(wanted):
        return False
    return dict(pairs) == wanted and exact_types(dict(pairs), wanted)


def exact_types(found: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
    return all(type(value) is type(wanted[key]) for key, value in found.items())


def near_misses(problem: Problem) -> list[str]:
    wanted, right = problem.facts["wanted"], problem.witness
    key, value = next(iter(wanted.items()))
    return others(
        problem,
        json.dumps({**wanted, key: "Ida" if value != "Ida" else "Ada"}),
        json.dumps({**wanted, "more": 1}),
        json.dumps([wanted]),
        right[:-1],
        right.replace('"', "'"),
        f"```json\n{right}\n```",
    )
