"""What stands beside the number of an answer: its unit, and numbers in words."""

import functools
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from nomoat.tasks.latex import GREEK, Token

PERCENT = ("percent", "Prozent")
JOINING = ("/", "per", ".", "-", "'", "a", "of")

MONEY = ("$", "€", "£", "¢")
MAX_UNIT = 12  # tokens
MAX_NOUN = 4  # words
NAME = re.compile(r"[^\W\d_]+")
DEGREES = ("degree", "degrees", "Grad")
SCALES = {"celsius": "celsius", "c": "celsius", "fahrenheit": "fahrenheit", "f": "fahrenheit"}
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


def parted(tokens: Sequence[Token]) -> tuple[list[Token], str]:
    r"""(the tokens without a unit at the end or a sign of money, the unit or "").

    A unit is one of words.toml that has more than one letter, or any words in \text{…} after something else.
    """
    tokens = with_percent(tokens)
    start = start_of_words(tokens)
    if 0 < start < len(tokens) and tokens[start - 1].text not in ("^", "_", "{", "(", "[", ","):
        unit = unit_of(tokens[start:])
        if unit:
            return without_money(tokens[:start])[0], unit
    rest, money = without_money(tokens)
    if len(rest) > 1 and rest[-1].text == "°":
        return rest, money or "degree"
    return rest, money


def guessed(tokens: Sequence[Token]) -> tuple[list[Token], str, bool] | None:
    """(the tokens without it, what may be a unit at the end, whether it is of words): 3 red apples; or of
    letters after a blank, 5 m, which may stand for a number.
    """
    for start in range(max(1, len(tokens) - MAX_UNIT), len(tokens)):
        first = tokens[start]
        if first.kind == "name" and first.space:
            unit = compound(tokens[start:])
            if unit:
                return [*tokens[:start]], unit, False
    start = len(tokens)
    while start > 1 and tokens[start - 1].kind == "name" and tokens[start - 1].space:
        start -= 1
    unit = noun_of(tokens[start:])
    if not unit or not (tokens[start - 1].kind == "number" or tokens[start - 1].text == "}"):
        return None
    return [*tokens[:start]], unit, True


def noun_of(phrase: Sequence[Token]) -> str:
    """What a few words count; "" where they are letters, or another value."""
    longest = max((len(token.text) for token in phrase), default=0)
    return unit_of(phrase) if longest > 2 and len(phrase) <= MAX_NOUN else ""


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


@functools.lru_cache(1024)
def nouns_of(question: str) -> frozenset[str]:
    """The stems of the words that what a question counts may be among."""
    found = {name for name in NAME.findall(question) if len(name) > 2 and name.lower() not in no_nouns()}
    return frozenset(map(stem, found))


def worth_more(names: Sequence[str]) -> bool:
    """Whether a word among them makes another number of the one before it, or none."""
    return any(name.lower() in no_nouns() for name in names)


@functools.cache
def no_nouns() -> set[str]:
    """Words that make another number of the one before them, or none."""
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


def start_of_words(tokens: Sequence[Token]) -> int:
    r"""Where the words at the end begin: all of \text{…} and its power, or a unit with a long name."""
    start = end = len(tokens) - len(power_at_end(tokens))
    while start and tokens[start - 1].kind == "word":
        start -= 1
        while start and tokens[start - 1].text in JOINING and tokens[start - 1].kind == "sign":
            start -= 1
    while start < end and tokens[start].kind == "sign":
        start += 1
    if start < end:
        return start
    for start in range(max(1, len(tokens) - MAX_UNIT), len(tokens)):
        long = len(tokens[start].text) > 1 and tokens[start].kind == "name"
        if long and compound(tokens[start:]):
            return start
    return len(tokens)


def power_at_end(tokens: Sequence[Token]) -> Sequence[Token]:
    """The tokens of ^2 or ^{2} at the end."""
    for n in (2, 4):
        if power_of(tokens[-n:])[1] == n == len(tokens[-n:]):
            return tokens[-n:]
    return []


def power_of(tokens: Sequence[Token]) -> tuple[int, int]:
    """(the exponent that the tokens begin with, of how many it is): ^2, ^{3}, squared; (1, 0) for none."""
    texts = [token.text for token in tokens[:4]]
    if not texts:
        return 1, 0
    if texts[0] in ("squared", "cubed"):
        return unit_powers()[texts[0]], 1
    for exponent in ("2", "3"):
        if texts[:2] == ["^", exponent]:
            return int(exponent), 2
        if texts == ["^", "{", exponent, "}"]:
            return int(exponent), 4
    return 1, 0


def compound(tokens: Sequence[Token]) -> str:
    """The one name of a unit that all of the tokens are: m^2, km/h, square feet, miles per hour; or ""."""
    at, parts, sign = 0, [], 1
    while at < len(tokens):
        unit, power, n = simple(tokens[at:])
        if not unit:
            return ""
        top, _, below = unit.partition("/")
        parts.append((top, sign * power))
        if below:
            parts.append((below, -sign * power))
        at += n
        if at < len(tokens):
            if tokens[at].text not in ("/", "per", "*", "a") or at + 1 == len(tokens):
                return ""
            sign = 1 if tokens[at].text == "*" else -1
            at += 1
    above = "*".join(powers(parts, 1))
    return "/".join((above or "1", *powers(parts, -1)))


def simple(tokens: Sequence[Token]) -> tuple[str, int, int]:
    """(the unit that the tokens begin with, or "", its power, of how many tokens it is)."""
    at, power = 0, 1
    if tokens[0].text in unit_powers():
        power = unit_powers()[tokens[0].text]
        at = 1 + follows_dot(tokens[1:])
    words = [token.text for token in tokens[at : at + 2]]
    scale = SCALES.get(words[-1].lower()) if words else None
    if scale and words[0] in DEGREES:
        at += 1
        words = [scale]
    if not words:
        return "", 1, 0
    name = words[0]
    unit = unit_names().get(name, "")
    if not unit and len(name) > 2:
        unit = unit_names().get(name.lower(), "")
    at += 1 + follows_dot(tokens[at + 1 :])
    raised, n = power_of(tokens[at:])
    return unit, power * raised, at + n


def follows_dot(tokens: Sequence[Token]) -> bool:
    return bool(tokens) and tokens[0].text == "."


def powers(parts: Sequence[tuple[str, int]], sign: int) -> list[str]:
    """The units of one side of the stroke, with their exponents."""
    wanted = sorted((unit, abs(n)) for unit, n in parts if n * sign > 0)
    return [unit if n == 1 else f"{unit}^{n}" for unit, n in wanted]


def unit_of(tokens: Sequence[Token]) -> str:
    """The name that the unit goes by; "" where the words are none, or are another value."""
    if unit := compound(tokens):
        return unit
    raised = power_at_end(tokens)
    power = power_of(raised)[0]
    tokens = tokens[: len(tokens) - len(raised)]
    names = [token.text for token in tokens if token.text not in (".", "-")]
    if names and names[0] in unit_powers():
        power *= unit_powers()[names[0]]
        names = names[1:]
    if not names or worth_more(names) or names in (["a", "m"], ["p", "m"]):
        return ""
    unit = stem(" ".join(names))
    return unit if power == 1 else f"{unit}^{power}"


def with_percent(tokens: Sequence[Token]) -> list[Token]:
    found = []
    for token in tokens:
        if token.text == "cent" and found and found[-1].text == "per":
            found[-1] = token._replace(kind="sign", text="%")
        else:
            found.append(token._replace(kind="sign", text="%") if token.text in PERCENT else token)
    return found


def quantities(tokens: Sequence[Token]) -> str:
    """Several numbers with units in one spelling: 3 h 20 min as 3 hour 20 minute; "" for all else."""
    found, at = [], 0
    while at < len(tokens):
        name = tokens[at + 1].text if at + 1 < len(tokens) else ""
        unit = unit_names().get(name) or unit_names().get(name.lower())
        if tokens[at].kind != "number" or not unit:
            return ""
        found.append(f"{tokens[at].text} {unit}")
        at += 2
        while at < len(tokens) and tokens[at].text in (",", ".", "and", "und"):
            at += 1
    return " ".join(found) if len(found) > 1 else ""


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


def signed(tokens: Sequence[Token]) -> list[Token]:
    """minus 5 as -5."""
    first = len(tokens) > 1 and tokens[1].kind == "number" and tokens[0].text.lower()
    return [Token("sign", "-"), *tokens[1:]] if first in ("minus", "negative") else [*tokens]


def scaled(tokens: Sequence[Token]) -> list[Token]:
    """2.5 million as 2.5 * 10^6, where the tokens end in such a word."""
    power = words()["scales"].get(tokens[-1].text.lower()) if len(tokens) > 1 else None
    if power is None or tokens[-2].kind != "number":
        return [*tokens]
    signs = (Token("sign", "*"), Token("number", "10"), Token("sign", "^"), Token("number", str(power)))
    return [*tokens[:-1], *signs]


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
