"""The last number of a reply, and whether it is the expected one.

Lenient: what stands before it may say anything.  But what stands beside it and makes another number of it is
read with it, as minus and million, or leaves none: 2 dozen, 3 quarters, 5k, 3-5, 3:4, 2024-11-28, 5 ft 3 in.
"""

import itertools
import re
from collections.abc import Collection, Sequence
from fractions import Fraction

from nomoat.tasks import latex, powers
from nomoat.tasks import units as measures
from nomoat.tasks.asked import asked
from nomoat.tasks.exact import number, understood
from nomoat.tasks.formulas import Formula
from nomoat.tasks.latex import Token
from nomoat.tasks.nouns import NUMERAL, stem, unit_names, words
from nomoat.tasks.texts import narrow

FRAC = ["frac", "{", "}", "{"]  # without the numerator
NEGATIVE_FRAC = ["frac", "{", "-", "}", "{"]
NAMES = ("name", "word")
JOINTS = ("-", ":", "'", "′", "/")  # between two numerals that are one range, date, time or ratio
# Behind these, a minus with blanks around it is no dash.
SAYS = (
    "is", "are", "be", "was", "equals", "equal", "to", "by", "of", "at", "gets", "get", "ist", "sind",
    "gleich",
)  # fmt: skip
DASH = re.compile(r"(?<=\w)[ \t]+—[ \t]+")  # a break in a sentence
UNITS_OF_A_LETTER = set("mgshlLNJWVACFpd")  # that stand right behind a number


def last_number(
    text: str, *, lang: str = "en", percent: bool = True, nouns: Collection[str] = ()
) -> Fraction | None:
    """The last number in the text, after `####` if that is there (GSM8K's layout).

    1 1/2, \\frac{3}{4}, 12 345, 10⁻³ and 25% are one number; where something is left to do, as in 84/2, the
    last numeral is, and none of 3² and √2.  Exponents and indices of letters are no numbers of their own.
    Without `percent`, 25% is 25; words that the `nouns` hold are counted and change nothing.
    """
    return last_of(text, lang=lang, percent=percent, nouns=nouns)[0]


def last_of(
    text: str, *, lang: str = "en", percent: bool = True, nouns: Collection[str] = ()
) -> tuple[Fraction | None, str]:
    """(the last number, or None, what it is or why there is none, for a person)."""
    text = DASH.sub(" ; ", powers.BOLD.sub(" ", narrow(text[-2000:].rpartition("####")[2])))
    found = latex.tokens(text, lang, loose=powers.in_thousands(text))
    found = [token for token in measures.with_percent(found) if percent or token.text != "%"]
    found = with_minus(found)
    last = powers.last_numeral(found)
    if last is None:
        return None, "there is no number"
    start, end = phrase(found, last)
    texts = [token.text for token in found]
    if _goes_on(found, last) or powers.undone(found, last) or powers.left_to_do(texts, start, end):
        return None, f"what {found[last].text} is part of can't be read"
    scale, end_of_scale = scale_behind(found, end, nouns)
    if why := changed(found, start, last, end_of_scale, nouns):
        return None, f"the last number can't be read: {why}"
    first = negative(found, start)
    if first is None:
        return None, "the last number can't be read: the minus before it may be a dash"
    ways = [(first, end), (last, last + 1)]
    if scale != 1 and end - start > 1:
        return None, "the last number can't be read: a part of a large one"
    for first, end in ways:
        value = exactly(found[first:end], powers.is_of_ten(found, start, last))
        if value is not None:
            return value * scale, f"the last number is {value * scale}"
    return None, f"what {found[last].text} is part of can't be read"


def exactly(phrase: Sequence[Token], of_ten: bool) -> Fraction | None:
    """The number that the tokens are, where nothing is left to do in it, but a power `of_ten`."""
    reading = understood([token for token in phrase if token.text not in measures.MONEY], "", Fraction(1))
    value = reading.value.number() if reading and isinstance(reading.value, Formula) else None
    return value.fraction() if value and (of_ten or not reading.undone) else None


def with_minus(found: Sequence[Token]) -> list[Token]:
    """minus 3, negative $5 as -3, -$5."""
    tokens = [*found]
    for i, token in enumerate(found[:-1]):
        then = found[i + 1]
        if token.text.lower() in ("minus", "negative") and (
            then.kind == "number" or then.text in (*measures.MONEY, "frac")
        ):
            tokens[i] = Token("sign", "-", True)
            tokens[i + 1] = then._replace(space=not _says(found, i))
    return tokens


def _says(found: Sequence[Token], i: int) -> bool:
    """Whether a minus in words is a sign: there is no number before it."""
    return not i or found[i - 1].kind != "number"


def scale_behind(found: Sequence[Token], end: int, nouns: Collection[str]) -> tuple[Fraction, int]:
    """(what the words behind the number multiply it by, where they end): 2 hundred thousand."""
    scale = Fraction(1)
    for token in found[end:]:
        power = words()["scales"].get(token.text.lower())
        if power is None or stem(token.text) in nouns:
            break
        scale *= 10**power
        end += 1
    return scale, end


def changed(found: Sequence[Token], start: int, last: int, end: int, nouns: Collection[str]) -> str:
    """What makes another number of the one that stands there, or none; "" for nothing."""
    none = [Token("end", "", True)] * 3
    before = [*none, *found[:start]][-2:]
    behind = [*found[end:], *none][:3]
    is_part = last > start
    return (
        by_sign(before, found[start])
        or by_words_before(before, is_part)
        or by_word(behind, nouns)
        or by_scale(found[end - 1], behind[0])
        or by_dots(found[last], behind)
        or of_two_units(found, start, end)
    )


def by_sign(before: Sequence[Token], first: Token) -> str:
    """What stands before a number and makes a range, a date or two numbers of it."""
    number, sign = before
    if sign.text in ("±", "∓"):
        return f"{sign.text} makes two of it"
    if sign.kind == first.kind == "number" and not first.space:
        return f"{sign.text} goes on"
    if number.kind != "number" or sign.text not in JOINTS or sign.space != first.space:
        return ""
    if first.space and sign.text in ("-", "/"):  # a difference, a quotient
        return ""
    return f"{number.text}{sign.text}{first.text} is a range, date, time or ratio"


def by_words_before(before: Sequence[Token], is_part: bool) -> str:
    """2 and 1/2, 3 million 200."""
    number, word = before
    if number.kind != "number":
        return ""
    name = word.text.lower()
    joined = is_part and name in ("and", "und")
    return f"{number.text} {name} goes on" if joined or name in words()["scales"] else ""


def by_word(behind: Sequence[Token], nouns: Collection[str]) -> str:
    """The word behind a number that makes another one of it."""
    token = behind[0]
    name = token.text.lower()
    if name in ("and", "und"):
        return and_a_part([part.text.lower() for part in behind])
    if name == "‰":
        return name
    if token.kind not in NAMES or stem(name) in nouns:
        return ""
    table = words()
    scaling = stem(name) in table["nouns"]["scaling"] or name in table["parts"]
    if scaling or NUMERAL.fullmatch(name):
        return f"{token.text} changes it"
    attached = not token.space and len(name) == 1
    return f"{token.text} stands right behind it" if attached and token.text not in UNITS_OF_A_LETTER else ""


def and_a_part(names: Sequence[str]) -> str:
    """and a half, und ein halbes."""
    part = names[-1]
    return " ".join(names) if part in words()["parts"] or part.startswith("halb") else ""


def by_scale(last: Token, behind: Token) -> str:
    """3 thousand five."""
    goes_on = last.text.lower() in words()["scales"] and behind.text.lower() in words()["numbers"]
    return f"{behind.text} goes on" if goes_on else ""


def by_dots(last: Token, behind: Sequence[Token]) -> str:
    """0.333..."""
    dots = behind[0].text == "…" or [token.text for token in behind[:2]] == [".", "."]
    return "its digits go on" if dots and "." in last.text else ""


def of_two_units(found: Sequence[Token], start: int, end: int) -> str:
    """5 feet 3 inches, 3 dollars and 50 cents."""
    at = start - 1
    while at > 0 and found[at].text in (",", "and", "und"):
        at -= 1
    if at < 1 or end >= len(found):
        return ""
    if found[at - 1].kind != "number":
        return ""
    units = {unit_names().get(found[i].text) for i in (at, end)} - {None}
    return f"{' and '.join(sorted(units))} are one" if len(units) > 1 else ""


def _goes_on(tokens: Sequence[Token], i: int) -> bool:
    """Whether numeral i is the end of a number that is written in a way we don't read: 10 000, 100,00."""
    before = [token for token in tokens[max(i - 2, 0) : i] if token.text.strip() not in ("", ",")]
    return bool(before) and before[-1].kind == "number" and re.fullmatch(r"0\d+", tokens[i].text) is not None


def says_last(text: str, expected: str, *, lang: str = "en", question: str = "") -> bool:
    """Whether the last number in the text is the expected one; 25% is said of 25, too, and 2 dozen of 2 where
    the question counts dozens.
    """
    wanted = number(expected, lang=lang)
    percents = (True,) if "%" in expected else (True, False)
    ways = itertools.product(percents, {frozenset(), asked(question).nouns})
    return wanted is not None and any(
        last_number(text, lang=lang, percent=percent, nouns=nouns) == wanted for percent, nouns in ways
    )


def phrase(found: list[Token], last: int) -> tuple[int, int]:
    """Where the number that ends in this numeral starts and ends: fraction, mixed number, percentage."""
    texts = [token.text for token in found]
    start, end = powers.of_ten(texts, last)
    if start == last:
        start, end = fraction_at(texts, last)
        if 0 < start < last and texts[start - 1].isdigit():
            start -= 1  # 1 1/2
    if texts[end : end + 1] == ["%"]:
        end += 1
    return start, end


def fraction_at(texts: list[str], last: int) -> tuple[int, int]:
    """Where a/b or \\frac{a}{b} starts and ends, if the numeral is its b; else the numeral alone."""
    if texts[last + 1 : last + 2] == ["}"]:
        for signs in (FRAC, NEGATIVE_FRAC):
            start = max(0, last - len(signs) - 1)
            before = texts[start:last]
            if without_top(before) == signs:
                return start, last + 2
    if last > 1:
        sign = texts[last - 1]
        above = texts[last - 2]
        if sign == "/" and above[:1].isdigit():
            return last - 2, last + 1
    return last, last + 1


def without_top(texts: list[str]) -> list[str]:
    """The tokens before a denominator, without the numerator."""
    return [*texts[:-3], *texts[-2:]]


def negative(found: list[Token], start: int) -> int | None:
    """The start, with the minus before the number if that isn't between two; None where it may be a dash."""
    first = start
    while first and found[first - 1].text in measures.MONEY:
        first -= 1
    if not first or found[first - 1].text != "-":
        return start
    minus = first - 1
    before = found[minus - 1] if minus else None
    if before is None:
        return minus
    bracketed = before.text == "(" and minus > 1 and found[minus - 2].text == "-"
    if bracketed or before.text.lower() in ("-", "minus", "negative"):
        return None
    if before.kind == "number" or before.text in (")", "}", "%", "]"):
        return minus if found[minus].space and not found[first].space else start
    if before.kind == "sign":
        return minus
    if not found[first].space:
        return minus if found[minus].space else start
    if before.text.lower() in SAYS:
        return minus
    return start if len(before.text) == 1 else None
