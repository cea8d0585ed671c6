r"""Answers compared exactly: numbers by value, formulas by form, all else as text.  Nothing is evaluated.

Read, in LaTeX and in plain text: integers, 1,234 (outside brackets), decimals (German with lang="de"), 0.(3),
1e3, fractions, mixed numbers, percent, + - * x / ^, ±, \frac, \sqrt, pi, letters, functions, lists, tuples,
intervals, sets and unions (these in any order), matrices, ratios, relations, $…$, \boxed{}, **…**, and units:
those that a task names, those of words.toml, and a \text{unit} at the end.  `latex` has the tokens, `reader`
the grammar, `values` says which numbers there are, `formulas` when formulas are equal.

An answer has to be worked out as far as what is expected: 17+25 is not 42, 84/2 is not 42, 2/4 is not 1/2.
Otherwise the question would be an answer.  As in MATH's own grading, degrees, `\$`, a unit at the end and
`x =` may be left out.  What is longer, deeper or larger than the limits isn't read, and compares as text.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from nomoat.tasks import latex, lists, products, spoken
from nomoat.tasks import units as measures
from nomoat.tasks.asked import (
    Asked,
    asked,
    behind_sought,
    contradicts,
    of_another_kind,
    only_region,
    only_repeats,
    times_in,
)
from nomoat.tasks.formulas import Algebra, Answer, Formula, Several, atom, rational
from nomoat.tasks.latex import Token
from nomoat.tasks.nouns import NAME, omissible, stem, words
from nomoat.tasks.reader import FUNCTIONS, Reader
from nomoat.tasks.texts import MAX_PLAIN, MAX_TEXT, clean, plain, same_choice, same_time, without_text
from nomoat.tasks.values import Unread

DENIAL = re.compile(r"\bnot\b|n't\b|\bnicht\b|\bkein", re.IGNORECASE)  # words beside which an answer is none
PERCENT = re.compile(r"(?<![%\\])\s*(?:\\?%(?!\s*\\?%)|per ?cent\b|Prozent\b)")
SAME = {True: "the same", False: "another"}
# Signs that no plain words have.
FORMAL = set("+*/^=<≤>≥≠±∓∈∪∖√π%°∞ℝℤℚℕℂ") | {"frac", "begin matrix", "begin cases", *FUNCTIONS}


@dataclass(frozen=True, eq=False)
class Reading:
    """What a text was read as; `undone` counts the operations that are left to do in it, `powers` the powers
    of ten that numbers are written with, `omissible`: the unit may be left out.
    """

    value: Answer
    undone: int
    unit: str = ""
    powers: int = 0
    omissible: bool = True


def equal(
    answer: str,
    expected: str,
    *,
    units: Mapping[str, Any] | None = None,
    lang: str = "en",
    question: str = "",
) -> bool:
    """Whether the answer says what is expected, and is worked out as far.  Total, and bounded in time.  The
    nouns of a `question` that counts may be left out, or stand beside a number.
    """
    return compared(answer, expected, units=units, lang=lang, question=question)[0]


# 2024-11-28, 11/28/2024, 3-5, 0x1F: no differences, quotients or products
NO_SUM = re.compile(r"\d+(?:[-–—/]\d+){2,}|\d+(?:\.\d+)?[-–—]\d+(?:\.\d+)?|0[xX][0-9a-fA-F]+")
SPACED = re.compile(r"\b\d{1,3}, +\d{3}\b")  # a list that may be 1,200 elsewhere
COMMA = re.compile(r"(?<=\d),(?=\d{3}\b)")
DASH = re.compile(r"\s*(?:[-–—−]|--)\s*|(?<=\d)\s(?:to|bis)\s(?=\d)")


def compared(
    answer: str,
    expected: str,
    *,
    units: Mapping[str, Any] | None = None,
    lang: str = "en",
    question: str = "",
) -> tuple[bool, str]:
    """(whether they are equal, by which rule)."""
    if max(len(answer), len(expected)) > MAX_PLAIN:
        return answer.strip() == expected.strip(), "too long to be read: compared as text"
    if DENIAL.search(answer) and not DENIAL.search(expected):
        return False, "it denies"
    if answer.count("\\boxed") > 1:
        return False, "more than one box"
    texts = clean(answer), clean(expected)
    if lists.are_reals(*texts):
        return True, "the same set"
    chosen = same_choice(*texts, question)
    if chosen is not None:
        return chosen, f"{SAME[chosen]} choice"
    timed = same_time(*texts)
    if timed is not None:
        return timed, f"{SAME[timed]} time of day"
    if any(NO_SUM.fullmatch(text.strip("$. ")) for text in texts):
        same = _one_dash(texts[0]) == _one_dash(texts[1])
        return same, f"{SAME[same]} date, range or code"
    return as_asked(answer, expected, units, lang, asked(question))


def as_asked(
    answer: str, expected: str, units: Mapping[str, Any] | None, lang: str, wanted: Asked
) -> tuple[bool, str]:
    """(whether they are equal as answers to what the question `wanted`, by which rule)."""
    texts = clean(answer), clean(expected)
    if only_repeats(*texts, wanted.sought):
        return False, "the question itself, not worked out"
    if wanted.point and only_region(*texts):
        return False, "a region, and the question asks for a point"
    values = tuple(behind_sought(text, wanted.sought) for text in texts)
    if values != texts:
        answer, expected = values
    same, rule = by_value(answer, expected, units, lang, wanted)
    if not same and lang == "en" and SPACED.search(texts[1]):
        listed, _ = by_value(COMMA.sub(", ", answer), expected, units, lang, wanted)
        return listed, "the same list" if listed else rule
    if not same and wanted.percent and in_percent(texts, units, lang, wanted):
        return True, "the same value, in percent as the question asks"
    return same, rule


def in_percent(texts: Sequence[str], units: Mapping[str, Any] | None, lang: str, wanted: Asked) -> bool:
    """Whether the texts are equal without the sign of a percentage, and one without it counts nothing."""
    bare = [PERCENT.sub("", text) for text in texts]
    without_sign = [text for text in texts if text in bare]
    if len(without_sign) == 2:
        return False
    for text in without_sign:
        if any(reading.unit for reading in readings(text, units, lang, wanted=wanted)):
            return False
    wanted = dataclasses.replace(wanted, percent=False)
    return by_value(*bare, units, lang, wanted)[0]


def by_value(
    answer: str, expected: str, units: Mapping[str, Any] | None, lang: str, wanted: Asked
) -> tuple[bool, str]:
    """(whether they are equal as numbers and formulas, or as texts, by which rule)."""
    read = functools.partial(readings, units=units, lang=lang, wanted=wanted)
    a, b = read(answer), read(expected)
    if a and not b:
        b = read(expected, letters=True)
    elif b and not a:
        a = read(answer, letters=True)
    if a and b and not wordy(answer):
        return matched(a, b, units, wanted)
    if not (a and b) and (verdict := products.compared(clean(answer), clean(expected), wanted.letters)):
        return verdict
    same = plain(answer, lang) == plain(expected, lang) != ""
    if a and b and not same:
        return matched(a, b, units, wanted)
    return same, f"{SAME[same]} text"


def _one_dash(text: str) -> str:
    return DASH.sub("-", text.strip("$. "))


def wordy(text: str) -> bool:
    """Whether the text has no digit and no such sign: n/a is a formula, and may be words."""
    return not re.search("[0-9∅∞]", text)


def matched(
    answers: Sequence[Reading],
    expected: Sequence[Reading],
    units: Mapping[str, Any] | None = None,
    wanted: Asked = Asked(),  # noqa: B008  (it is frozen)
) -> tuple[bool, str]:
    """(whether any two that were read are equal, by which rule)."""
    verdicts = [judged(a, b, units, wanted) for a, b in itertools.product(answers, expected)]
    return next((verdict for verdict in verdicts if verdict[0]), verdicts[-1])


def judged(a: Reading, b: Reading, units: Mapping[str, Any] | None, wanted: Asked) -> tuple[bool, str]:
    omitted = not units and a.unit != b.unit
    if omitted and a.unit and b.unit:
        return False, f"another unit: {a.unit}, not {b.unit}"
    try:
        same = same_values(a.value, b.value, wanted.tuples)
    except Unread:
        return False, "too large to be compared"
    if not same:
        told = in_units(a, b, units) if units else ""
        return False, f"another value{told}"
    omissible = a.omissible and b.omissible
    if omitted and (why := not_omitted(a.unit or b.unit, omissible, wanted)):
        return False, why
    if a.undone > b.undone + b.powers:
        return False, "the same value, but not worked out as far"
    return True, f"the same value{in_units(a, b, units)}"


def same_values(a: Answer, b: Answer, asked: Collection[Sequence[str]] = ()) -> bool:
    letters = [Several("()", tuple(atom("letter", name) for name in names)) for names in asked]
    return any(Algebra().same(x, y) for x, y in lists.pairs(a, b, letters))


def not_omitted(unit: str, omissible: bool, wanted: Asked) -> str:
    """Why the unit can't be left out, if so."""
    if not omissible:
        what = "a unit of one letter" if len(unit) < 2 else "no unit that is known"
        return f"{what}, {unit}, which can't be left out"
    if contradicts(unit, wanted.unit, wanted.times):
        return f"another unit: {unit}, and the question asks for {wanted.unit}"
    if other := of_another_kind(unit, wanted):
        return f"{unit}, and the question asks for {other}"
    head, _, counted = unit.rpartition(" of ")
    containers = {*map(stem, NAME.findall(head))} & {*words()["nouns"]["containers"]} - wanted.nouns
    if containers and stem(counted) in wanted.nouns:
        return f"{unit}, and the question counts none"
    times = times_in(unit)
    if times and wanted.times and not times & wanted.times:
        return f"another rate: {unit}, and the question asks for one per {min(wanted.times)}"
    names = {*map(stem, NAME.findall(unit))}
    if wanted.scale and wanted.scale not in names and names <= wanted.nouns:
        return f"{unit}, and the question counts by the {wanted.scale}"
    return ""


def in_units(a: Reading, b: Reading, units: Mapping[str, Any] | None) -> str:
    """What was made of the units, for a person."""
    if not units:
        return ", the unit left out" if a.unit != b.unit else ""
    base = next((name for name, worth in units.items() if Fraction(str(worth)) == 1), "units of 1")
    return f", in {base}" if a.unit else f", without a unit in {base}"


def readings(
    text: str,
    units: Mapping[str, Any] | None = None,
    lang: str = "en",
    *,
    letters: bool = False,
    wanted: Asked = Asked(),  # noqa: B008  (it is frozen)
) -> list[Reading]:
    """What the text may be read as, at most twice: 5 m is five times m, and five metres; none where it isn't
    in the grammar.  `letters`: what would be words, as -a, i is a formula.  What the question `wanted` may be
    left out.
    """
    if len(text) > MAX_PLAIN or len(text := clean(text)) > MAX_TEXT:
        return []
    unit, worth = "", Fraction(1)
    if units:
        text, unit = measures.named(without_text(text), units)
        worth = Fraction(str(units[unit])) if unit else worth
    found = latex.tokens(text, lang, loose=not latex.BLANK_LIST.fullmatch(text))
    found = measures.signed(spoken.in_digits(found))
    nouns, whole = wanted.nouns, found
    if not units:
        found, unit = measures.parted(found, nouns)
    read = [understood(found, unit, worth, letters)]
    guess = measures.guessed(whole, nouns, wanted.unit) if not units and not (unit and read[0]) else None
    of_words = True
    if guess:
        *guess, of_words = guess
        counted = understood(*guess, Fraction(1))
        value = counted and (lists.unnamed(counted.value) or counted.value)  # also in v = 5 m/s
        if isinstance(value, Formula) and value.number():
            read.append(counted)
    return [
        dataclasses.replace(reading, omissible=of_words and omissible(reading.unit, nouns))
        for reading in read
        if reading
    ]


def understood(found: list[Token], unit: str, worth: Fraction, formal: bool = False) -> Reading | None:
    """What the tokens are read as; letters alone only where they have a minus, and the text is `formal`."""
    if spelled := spoken.spelled(" ".join(token.text for token in found)):
        return Reading(rational(Fraction(*spelled)), 0, unit)
    found = measures.scaled(measures.signed(found))
    letters = any(token.kind == "name" for token in found)
    formal = any(token.kind == "number" or token.text in FORMAL for token in found) or (
        formal and any(token.text == "-" for token in found)
    )
    if not found or (letters and not formal):
        return None
    reader = Reader(found)
    try:
        value = reader.whole()
        if worth != 1:
            value = scaled(value, worth, reader.algebra)
    except Unread:
        return None
    return Reading(value, reader.algebra.numbers.undone, unit, reader.powers_of_ten)


def scaled(value: Answer, worth: Fraction, algebra: Algebra) -> Answer:
    if isinstance(value, Several):
        raise Unread
    return Formula({m: algebra.numbers.scaled(v, worth) for m, v in value.terms.items()})


def parse(text: str, *, units: Mapping[str, Any] | None = None, lang: str = "en") -> Reading | None:
    """What the text is read as, or None where it is neither a number nor a formula nor made of them."""
    return next(iter(readings(text, units, lang)), None)


def number(text: str, *, lang: str = "en") -> Fraction | None:
    """The rational number that the text is."""
    reading = parse(text, lang=lang)
    value = reading.value.number() if reading and isinstance(reading.value, Formula) else None
    return value.fraction() if value else None
