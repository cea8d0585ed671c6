"""The columns of a row that say what its answer is: whether they say the same."""

import itertools
import json
from typing import Any

from nomoat.config import JsonObject, TaskError
from nomoat.tasks import answers, exact
from nomoat.tasks.tables import ANSWER


def agree(row: JsonObject, place: str) -> None:
    """TaskError where two columns of a row end in different answers: a box, what is after ####, or all of it.
    """
    said = {}
    for column in ANSWER:
        if isinstance(row.get(column), str | int | float):
            said[column] = final(row[column], column)
    filled = [column for column, text in said.items() if text]
    units, lang = row.get("units"), row.get("lang", "en")
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
    box = exact.boxed(text)
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
        return exact.says_last(a, b, lang=lang)
    return is_read == [True, False] and exact.says_last(b, a, lang=lang)


def as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
