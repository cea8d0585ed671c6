"""Fields: a JSON object with the keys and values that were asked for, judged as JSON with exact types.

Level = the number of fields.
"""

import json

from nomoat.tasks.base import Problem, Rng, language, others

levels = (1, 2, 3)
form = "text"

WORDINGS = {
    "en": ("Write a JSON object: {fields}.", "Give me JSON: {fields}."),
    "de": ("Schreibe ein JSON-Objekt: {fields}.", "Gib mir JSON: {fields}."),
}
FIELD = {
    "en": {int: "{key} the number {value}", str: "{key} the text {value}", bool: "{key} {value}"},
    "de": {int: "{key} die Zahl {value}", str: "{key} der Text {value}", bool: "{key} {value}"},
}
TRUTH = {"en": ("false", "true"), "de": ("falsch", "wahr")}
KEYS = ("a", "b", "id", "day", "on", "top", "red", "sun")
WORDS = ("dog", "cup", "map", "sea", "hat", "box")


def make(rng: Rng, level: int) -> Problem:
    wanted = {key: drawn_value(rng) for key in rng.sample(KEYS, level)}
    lang = language(rng)
    fields = []
    for key, value in wanted.items():
        shown = TRUTH[lang][value] if isinstance(value, bool) else value
        fields.append(FIELD[lang][type(value)].format(key=key, value=shown))
    return Problem(
        rng.choice(WORDINGS[lang]).format(fields=", ".join(fields)),
        f"fields {json.dumps(wanted, sort_keys=True)}",
        json.dumps(wanted, separators=(",", ":")),
        {"lang": lang, "wanted": wanted},
    )


def drawn_value(rng: Rng) -> int | str | bool:
    number, digits = rng.randrange(100), str(rng.randrange(100))
    return rng.choice((number, digits, rng.choice(WORDS), bool(rng.randrange(2))))


def check(problem: Problem, answer: str) -> bool:
    """Whether the answer is JSON with these fields and no others, each of the right type."""
    if len(answer) > 200 or answer.count("{") != 1 or "[" in answer:
        return False
    try:
        pairs = json.loads(answer.strip(" \t\r\n"), object_pairs_hook=list)
    except (ValueError, RecursionError):
        return False
    if not isinstance(pairs, list) or len(dict(pairs)) != len(pairs):
        return False
    wanted = problem.facts["wanted"]
    return dict(pairs) == wanted and all(type(value) is type(wanted[key]) for key, value in pairs)


def near_misses(problem: Problem) -> list[str]:
    wanted, bare = problem.facts["wanted"], problem.witness
    key, value = next(iter(wanted.items()))
    return others(
        problem,
        json.dumps({**wanted, key: 5 if isinstance(value, str) else str(value)}),
        bare[:-1],
        bare.replace('"', "'"),
        bare[:-1] + f',"{key}":{json.dumps(value)}}}',
        json.dumps({**wanted, "more": 1}),
        json.dumps([wanted]),
        json.dumps(bare),
    )


def work(problem: Problem) -> str:
    """`id number 5, on truth true: {"id":5,"on":true}`: key, kind and value of each field."""
    kinds = {int: "number", str: "text", bool: "truth"}
    steps = ", ".join(f"{key} {kinds[type(v)]} {json.dumps(v)}" for key, v in problem.facts["wanted"].items())
    return f"{steps}: {problem.witness}"
