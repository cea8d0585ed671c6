"""Fields: a JSON object with the keys and values that were asked for, judged as JSON with exact types.

Level = the number of fields.
"""

import json

from nomoat.tasks.base import Problem, Rng, language, others, words

levels = (1, 2, 3)
form = "text"

KEYS = ("a", "b", "id", "day", "on", "top", "red", "sun")
WORDS = ("dog", "cup", "map", "sea", "hat", "box")


def make(rng: Rng, level: int) -> Problem:
    keys = rng.sample(KEYS, level)
    value = lambda: rng.choice((rng.randrange(100), str(rng.randrange(100)), rng.choice(WORDS), bool(rng.randrange(2))))
    wanted = {key: value() for key in keys}
    lang = language(rng)
    says = words("fields", lang)
    shown = {key: says["truth"][v] if isinstance(v, bool) else v for key, v in wanted.items()}
    told = ", ".join(says[type(v).__name__].format(key=key, value=shown[key]) for key, v in wanted.items())
    key = f"fields {json.dumps(wanted, sort_keys=True)}"
    prompt, witness = rng.choice(says["ask"]).format(told=told), json.dumps(wanted, separators=(",", ":"))
    return Problem(prompt, key, witness, {"lang": lang, "wanted": wanted})


def check(problem: Problem, answer: str) -> bool:
    """Whether the answer is JSON with these fields and no others, each of the right type."""
    if len(answer) > 200 or answer.count("{") != 1 or "[" in answer:
        return False
    try:
        found = json.loads(answer.strip(" \t\r\n"), object_pairs_hook=list)
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, list) or len(dict(found)) != len(found):
        return False
    wanted = problem.facts["wanted"]
    return dict(found) == wanted and all(type(v) is type(wanted[k]) for k, v in found)


def near_misses(problem: Problem) -> list[str]:
    wanted, bare = problem.facts["wanted"], problem.witness
    key, value = next(iter(wanted.items()))
    retyped = json.dumps({**wanted, key: str(value) if not isinstance(value, str) else 5})
    return others(problem, retyped, bare[:-1], bare.replace('"', "'"), bare[:-1] + f',"{key}":{json.dumps(value)}}}',
                  json.dumps({**wanted, "more": 1}), json.dumps([wanted]), json.dumps(bare))  # fmt: skip


def work(problem: Problem) -> str:
    """`id number 5, on truth true: {"id":5,"on":true}`: key, kind and value of each field."""
    kinds = {int: "number", str: "text", bool: "truth"}
    steps = ", ".join(f"{key} {kinds[type(v)]} {json.dumps(v)}" for key, v in problem.facts["wanted"].items())
    return f"{steps}: {problem.witness}"
