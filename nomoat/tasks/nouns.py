"""Words beside a number: units, what a question counts, and those that make another number of it."""

import functools
import re
import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from nomoat.tasks.latex import GREEK

PERCENT = ("percent", "Prozent")
NAME = re.compile(r"[^\W\d_]+")
# Numerals, fractions and powers, in English and German: millionths, twelfths, Viertel, Hunderter, dreifach.
NUMERAL = re.compile(
    "|".join(
        (
            ".*(?:illion|illiard|hundred|thousand|hundert|tausend|overlin|overbar|vincul).*",
            ".*(?:stellig|ziffrig).*",
            ".*(?:teen|tie|four|fif|six|seven|eigh|nin|ten|eleven|twelf)ths?|nth|halves|h[aä]lfte.*|halbe.?",
            ".*(?:drit|vier|fünf|sechs|sieben?|ach|neun|zehn|elf|zwölf|[zß]igs)tel[ns]?",
            "zwei|drei|vier|fünf|sechs|sieben|acht|neun|elf|zwölf|.*(?:zehn|[zß]ig)|einer",
            ".*(?:zehn|[zß]ig)er",
            ".+(?:fold|fach)",
        )
    )
)
NO_UNITS = ("and", "or", "not", "und", "oder", "nicht", "am", "pm", "AM", "PM")


@functools.cache
def words() -> dict[str, dict[str, Any]]:
    return tomllib.loads(Path(__file__).with_name("words.toml").read_text("utf-8"))


@functools.cache
def unit_names() -> dict[str, str]:
    """Every name of a unit -> the one that it goes by."""
    return {name: unit for unit, others in words()["units"].items() for name in (unit, *others)}


@functools.cache
def unit_powers() -> dict[str, int]:
    """square -> 2, cubic -> 3 and the like."""
    return {name: int(n) for n, names in words()["powers"].items() for name in names}


def omissible(unit: str, nouns: Collection[str] = ()) -> bool:
    """Whether a number means the same without the unit: all its words are names of units, or what words.toml
    counts, or among the `nouns`, stems of a question's words.
    """
    known = (unit_names(), unit_powers(), counted(), nouns)
    return all(any(name in names or stem(name) in names for names in known) for name in NAME.findall(unit))


@functools.cache
def counted() -> set[str]:
    table = words()["nouns"]
    return {*table["filler"], *map(stem, table["filler"]), *map(stem, table["counted"])}


def worth_more(names: Sequence[str], nouns: Collection[str] = ()) -> bool:
    """Whether a word among them makes another number of the one before it, or none; `nouns` don't."""
    return any(changes(name) and stem(name) not in nouns for name in names)


@functools.lru_cache(4096)
def changes(name: str) -> bool:
    """Whether the word makes another number of the one before it, or none."""
    return name.lower() in no_nouns() or NUMERAL.fullmatch(name.lower()) is not None


@functools.cache
def no_nouns() -> set[str]:
    table = words()
    numbers = {*table["numbers"], *table["parts"], *table["scales"], *unit_powers(), *GREEK}
    return numbers | {*NO_UNITS, *table["nouns"]["none"], *(word.lower() for word in PERCENT)}


def stem(name: str) -> str:
    """A noun in the singular, as far as its end tells."""
    name = name.lower()
    for end, singular in (
        ("ies", "y"),
        ("ie", "y"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("xes", "x"),
        ("sses", "ss"),
    ):
        if name.endswith(end):
            return name.removesuffix(end) + singular
    return name if name.endswith("ss") else name.removesuffix("s")
