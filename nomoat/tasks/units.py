"""What stands beside the number of an answer: its unit, and numbers in words."""

import functools
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nomoat.tasks.latex import Token

PERCENT = ("percent", "Prozent")
JOINING = ("/", "per", ".", "-", "'", "a", "of")

MONEY = ("$", "€", "£", "¢")
NO_UNITS = ("and", "or", "not", "und", "oder", "nicht", "am", "pm", "AM", "PM")


@functools.cache
def words() -> dict[str, dict[str, Any]]:
    return tomllib.loads(Path(__file__).with_name("words.toml").read_text("utf-8"))


@functools.cache
def unit_names() -> dict[str, str]:
    """Every name of a unit -> the one that it goes by."""
    return {name: unit for unit, others in words()["units"].items() for name in (unit, *others)}


def parted(tokens: Sequence[Token], short: bool = False) -> tuple[list[Token], str]:
    r"""(the tokens without a unit at the end or a sign of money, the unit or "").

    A unit is one of words.toml, to a power of 2 or 3, or any words in \text{…} after something else.  Where
    `short`, it may be one letter after a blank.
    """
    tokens = with_percent(tokens)
    power, end = power_at_end(tokens)
    start = start_of_words(tokens, end, short)
    if 0 < start < end and tokens[start - 1].text not in ("^", "_", "{", "(", "[", ","):
        unit = unit_of(tokens[start:end], power)
        if unit:
            return without_money(tokens[:start])[0], unit
    rest, money = without_money(tokens)
    if len(rest) > 1 and rest[-1].text == "°":
        return rest, money or "degree"
    return rest, money


def power_at_end(tokens: list[Token]) -> tuple[int, int]:
    """(2 or 3 where the tokens end in that exponent, else 1; where it begins)."""
    texts = [token.text for token in tokens[-4:]]
    for exponent in ("2", "3"):
        if texts[-2:] == ["^", exponent]:
            return int(exponent), len(tokens) - 2
        if texts == ["^", "{", exponent, "}"]:
            return int(exponent), len(tokens) - 4
    return 1, len(tokens)


def start_of_words(tokens: Sequence[Token], end: int, short: bool) -> int:
    r"""Where the words at the end begin: all of \text{…}, or the names of one unit."""
    start = end
    while start and tokens[start - 1].kind == "word":
        start -= 1
        while start and tokens[start - 1].text in JOINING and tokens[start - 1].kind == "sign":
            start -= 1
    while start < end and tokens[start].kind == "sign":
        start += 1
    return start if start < end else end - n_names(tokens[:end], short)


def n_names(tokens: Sequence[Token], short: bool) -> int:
    """How many names of one unit the tokens end in."""
    texts = [token.text for token in tokens[-3:]]
    for n in (3, 2):
        last = texts[-n:]
        if len(last) == n and (" ".join(last) in long_names() or "".join(last) in unit_names()):
            return n
    if not texts or texts[-1] not in unit_names():
        return 0
    if re.fullmatch("[A-Za-z]", texts[-1]):
        return 1 if short and tokens[-1].space else 0
    return 1


@functools.cache
def long_names() -> set[str]:
    """Units of two and three words: square feet, miles per hour."""
    powers = [name for names in words()["powers"].values() for name in names]
    long = [name for name in unit_names() if len(name) > 1]
    return {f"{power} {name}" for power in powers for name in long} | {"miles per hour", "meters per second"}


def unit_of(tokens: Sequence[Token], power: int) -> str:
    """The name that the unit goes by; "" where the words are none, or are another value."""
    names = [token.text for token in tokens if token.text not in (".", "-")]
    if any(name in NO_UNITS for name in names) or names in (["a", "m"], ["p", "m"]):
        return ""
    powers = {name: int(n) for n, others in words()["powers"].items() for name in others}
    if names and names[0] in powers:
        power = powers[names[0]]
        names = names[1:]
    unit = "".join(names)
    if names == ["miles", "per", "hour"]:
        unit = "mph"
    unit = unit_names().get(unit, unit)
    return unit if power == 1 else f"{unit}^{power}"


def with_percent(tokens: Sequence[Token]) -> list[Token]:
    return [token._replace(kind="sign", text="%") if token.text in PERCENT else token for token in tokens]


def without_money(tokens: list[Token]) -> tuple[list[Token], str]:
    """The tokens without a sign of money at either end, and which that was."""
    if len(tokens) < 2:
        return tokens, ""
    first = 1 if tokens[0].text == "-" else 0
    for at in (first, len(tokens) - 1):
        sign = tokens[at].text
        if sign in MONEY:
            return [*tokens[:at], *tokens[at + 1 :]], unit_names().get(sign, sign)
    return tokens, ""


def spelled(text: str) -> tuple[int, int] | None:
    """(top, below) of a number in English words: five, twenty-one, two thirds."""
    names = text.lower().replace("-", " ").split()
    numbers, parts = words()["numbers"], words()["parts"]
    below = 1
    if len(names) > 1 and names[-1] in parts:
        below = parts[names.pop()]
    if names == ["a"] and below > 1:
        return 1, below
    if not 1 <= len(names) <= 2 or not all(name in numbers for name in names):
        return None
    first, last = numbers[names[0]], numbers[names[-1]]
    if len(names) == 1:
        return first, below
    if first % 10 or not 20 <= first <= 90 or not 1 <= last <= 9:
        return None
    return first + last, below


def named(text: str, units: Mapping[str, Any]) -> tuple[str, str]:
    """(text without the unit of the task that it ends in, that unit or "")."""
    for name in sorted(units, key=len, reverse=True):
        rest = text.removesuffix(name).rstrip()
        if rest in ("", text) or (rest[-1].isalpha() and name[0].isalpha()):
            continue  # no such unit, or the end of a longer word
        return rest, name
    return text, ""
