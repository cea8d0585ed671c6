"""Numbers in English words: five, twenty-one, two hundred and five thousand, two thirds."""

import itertools
import math
from collections.abc import Sequence

from nomoat.tasks.latex import Token
from nomoat.tasks.nouns import words

MAX_WORDS = 20
NOT_BEFORE = ("-", "/", "of", "or")  # five-eighths, one of them


def spelled(text: str) -> tuple[int, int] | None:
    """(top, below) of a number in English words, in lowest terms."""
    names = text.lower().replace("-", " ").split()
    if not 0 < len(names) <= MAX_WORDS:
        return None
    if len(names) == 1 or names[-1] not in words()["parts"]:
        count = counted(names)
        return None if count is None else (count, 1)
    return of_parts(names[:-1], names[-1])


def of_parts(names: Sequence[str], part: str) -> tuple[int, int] | None:
    """(top, below) of two thirds; None for ordinals, as twenty-fifth, and for what isn't in lowest terms."""
    below = words()["parts"][part]
    count = 1 if names == ["a"] else counted(names)
    if count is None or (count != 1 and not part.endswith("s")):
        return None
    return None if math.gcd(count, below) > 1 else (count, below)


def counted(names: Sequence[str]) -> int | None:
    """The whole number that the words are."""
    numbers, scales = words()["numbers"], words()["scales"]
    if names[0] in scales or (names[0] == "a" and len(names) > 1):
        names = ["one", *names[names[0] == "a" :]]
    total, count, least, last = 0, None, math.inf, ""
    for name in names:
        power = scales.get(name, 0)
        if name == "and" and last in scales:
            pass
        elif name == "hundred" and count and 0 < count < 100 and count % 10:
            count *= 100
        elif power > 2 and count and power < least:
            total, count, least = total + count * 10**power, None, power
        elif name in numbers and name != "hundred" and fits(numbers[name], count, total):
            count = (count or 0) + numbers[name]
        else:
            return None
        last = name
    return None if last == "and" else total + (count or 0)


def fits(number: int, count: int | None, total: int) -> bool:
    """Whether a number up to ninety may follow what was counted: 5 on 20, anything on 100."""
    if count is None:
        return number > 0 or not total
    if not number or not count:
        return False
    return count % 100 == 0 or (20 <= count % 100 <= 90 and count % 10 == 0 and number < 10)


def in_digits(tokens: Sequence[Token]) -> list[Token]:
    """Five apples as 5 apples, minus five degrees as minus 5 degrees."""
    first = int(len(tokens) > 1 and tokens[0].text.lower() in ("minus", "negative"))
    texts = [token.text for token in itertools.takewhile(joins, tokens[first:])]
    for n in range(min(len(texts), 2 * MAX_WORDS), 0, -1):
        phrase = texts[:n]
        found = spelled(" ".join(phrase))
        if not found or "-" in (phrase[0], phrase[-1]):
            continue
        top, below = found
        rest = tokens[first + n :]
        if below > 1 or (rest and rest[0].text in NOT_BEFORE):
            break
        digits = Token("number", str(top), True)
        start = tokens[:first]
        return [*start, digits, *rest]
    return [*tokens]


def joins(token: Token) -> bool:
    return token.kind in ("name", "word") or token.text == "-"
