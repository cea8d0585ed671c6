"""The columns of a row that say what its answer is: whether they say the same."""

import itertools
import json
import re
from fractions import Fraction
from typing import Any

from nomoat.config import JsonObject, TaskError
from nomoat.tasks import answers, base, exact, last, tables, texts
from nomoat.tasks.tables import ANSWER

WORTH = re.compile(r"\s*[0-9]{1,30}(\.[0-9]{1,30}|/0{0,30}[1-9][0-9]{0,30}|(\.[0-9]+)?e[+-]?[0-9]{1,2})?\s*")


def agree(row: JsonObject, place: str) -> None:
    """TaskError where two columns of a row end in different answers: a box, what is after ####, or all of it.
    """
    said = {}
    for column in ANSWER:
        if isinstance(row.get(column), str | int | float):
            said[column] = final(row[column], column)
    filled = [column for column, text in said.items() if text]
    units, lang = row.get("units"), language(row)
    for first, second in itertools.combinations(filled, 2):
        a, b = said[first], said[second]
        if alike(a, b, units=units, lang=lang):
            continue
        found = f"its {first} is {a[:60]!r}, but its {second} ends in {b[:60]!r}"
        cure = f"mend one of them, or choose with :answer={second}"
        raise TaskError(f"{place}: {found}; expected the same; {cure}")


def final(value: object, column: str) -> str | None:
    """The answer that a column ends in; None for words without one."""
    text = as_text(value)
    if "####" in text:
        return text.rpartition("####")[2].strip()
    box = texts.boxed(text)
    if box is None and (column in ("solution", "canonical_solution") or "\n" in text.strip()):
        return None
    return " ".join((box or text).split())


def alike(a: str, b: str, **reads: Any) -> bool:
    """Whether two answers mean the same, or one is a sentence that ends in the other."""
    for x in (a, answers.lenient_answer(a)):
        for y in (b, answers.lenient_answer(b)):
            if exact.equal(x, y, **reads) or exact.equal(y, x, **reads):
                return True
    lang = reads.get("lang", "en")
    is_read = [bool(exact.readings(text, lang=lang)) for text in (a, b)]
    if is_read == [False, True]:
        return last.says_last(a, b, lang=lang)
    return is_read == [True, False] and last.says_last(b, a, lang=lang)


def as_text(value: object) -> str:
    """A text, or the JSON of anything else: of a number all digits that the file has."""
    if isinstance(value, tables.Digits):
        return value.text
    return value if isinstance(value, str) else json.dumps(value)


def language(row: JsonObject, place: str | None = None) -> str:
    """How numbers are written, "en" unless the row says "de"; with a place, TaskError for anything else."""
    said = row.get("lang") or "en"
    lang = said.strip().lower() if isinstance(said, str) else said
    if lang in base.LANGUAGES:
        return lang
    if place is not None:
        known = " or ".join(f'"{name}"' for name in base.LANGUAGES)
        cure = "mend it, or leave it out where numbers are written as in English"
        raise TaskError(f"{place}: lang is {said!r:.40}; expected {known}; {cure}")
    return "en"


def check_units(row: JsonObject, place: str) -> None:
    """TaskError for units that can't be converted."""
    units = row.get("units")
    if not units:
        return
    expected = 'expected what each is worth, as in {"m": 1, "cm": "0.01"}; mend it'
    if not isinstance(units, dict):
        raise TaskError(f"{place}: units are {units!r:.60}; {expected}")
    for name, worth in units.items():
        written = isinstance(worth, str) and WORTH.fullmatch(worth)
        number = isinstance(worth, int | float) and not isinstance(worth, bool)
        if not (written or number) or Fraction(str(worth)) <= 0:
            raise TaskError(f"{place}: the unit {name!r} is worth {worth!r:.40}; {expected}")
