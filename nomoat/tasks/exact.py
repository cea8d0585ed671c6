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

from nomoat.tasks import latex, lists, powers
from nomoat.tasks import units as measures
from nomoat.tasks.formulas import Algebra, Answer, Formula, Several, rational
from nomoat.tasks.latex import Token
from nomoat.tasks.nouns import nouns_of, omissible, words
from nomoat.tasks.reader import FUNCTIONS, Reader
from nomoat.tasks.texts import MAX_PLAIN, MAX_TEXT, clean, plain, same_choice, same_time, without_text
from nomoat.tasks.values import Unread

DENIAL = re.compile(r"\bnot\b|n't\b|\bnicht\b|\bkein", re.IGNORECASE)  # words beside which an answer is none
SAME = {True: "the same", False: "another"}
FORMAL = set("+*/^=<≤>≥≠±∓∈∪√π%°") | {"frac", "begin matrix", *FUNCTIONS}  # signs that no plain words have
FRAC = ["frac", "{", "}"]


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


# 2024-11-28, 11/28/2024, 3–5, 0x1F: no differences, quotients or products
NO_SUM = re.compile(r"\d+(?:[-–—/]\d+){2,}|\d+[–—]\d+|0[xX][0-9a-fA-F]+")


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
    chosen = same_choice(*texts)
    if chosen is not None:
        return chosen, f"{SAME[chosen]} choice"
    timed = same_time(*texts)
    if timed is not None:
        return timed, f"{SAME[timed]} time of day"
    if any(NO_SUM.fullmatch(text.removesuffix(".")) for text in texts):
        same = _one_dash(texts[0]) == _one_dash(texts[1])
        return same, f"{SAME[same]} date, range or code"
    read = functools.partial(readings, units=units, lang=lang, nouns=nouns_of(question))
    a, b = read(answer), read(expected)
    if a and not b:
        b = read(expected, letters=True)
    elif b and not a:
        a = read(answer, letters=True)
    if a and b and not wordy(answer):
        return matched(a, b, units)
    same = plain(answer, lang) == plain(expected, lang) != ""
    if a and b and not same:
        return matched(a, b, units)
    return same, f"{SAME[same]} text"


def _one_dash(text: str) -> str:
    return re.sub("[–—]", "-", text.removesuffix("."))


def wordy(text: str) -> bool:
    """Whether the text has no digit: n/a is a formula, and may be words."""
    return not re.search("[0-9]", text)


def matched(
    answers: Sequence[Reading], expected: Sequence[Reading], units: Mapping[str, Any] | None = None
) -> tuple[bool, str]:
    """(whether any two that were read are equal, by which rule)."""
    verdicts = [judged(a, b, units) for a, b in itertools.product(answers, expected)]
    return next((verdict for verdict in verdicts if verdict[0]), verdicts[-1])


def judged(a: Reading, b: Reading, units: Mapping[str, Any] | None) -> tuple[bool, str]:
    omitted = not units and a.unit != b.unit
    unit = a.unit or b.unit
    if omitted and a.unit and b.unit:
        return False, f"another unit: {a.unit}, not {b.unit}"
    try:
        same = any(Algebra().same(x, y) for x, y in lists.pairs(a.value, b.value))
    except Unread:
        return False, "too large to be compared"
    if not same:
        told = in_units(a, b, units) if units else ""
        return False, f"another value{told}"
    if omitted and not (a.omissible and b.omissible):
        what = "a unit of one letter" if len(unit) < 2 else "no unit that is known"
        return False, f"{what}, {unit}, which can't be left out"
    if a.undone > b.undone + b.powers:
        return False, "the same value, but not worked out as far"
    return True, f"the same value{in_units(a, b, units)}"


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
    nouns: Collection[str] = (),
) -> list[Reading]:
    """What the text may be read as, at most twice: 5 m is five times m, and five metres; none where it isn't
    in the grammar.  `letters`: what would be words, as -a, i is a formula.  `nouns` may be left out.
    """
    if len(text) > MAX_PLAIN or len(text := clean(text)) > MAX_TEXT:
        return []
    unit, worth = "", Fraction(1)
    if units:
        text, unit = measures.named(without_text(text), units)
        worth = Fraction(str(units[unit])) if unit else worth
    found = latex.tokens(text, lang, loose=not latex.BLANK_LIST.fullmatch(text))
    guess = None
    if not units:
        whole, (found, unit) = found, measures.parted(found, nouns)
        guess = None if unit else measures.guessed(whole, nouns)
    read = [understood(found, unit, worth, letters)]
    of_words = True
    if guess:
        *guess, of_words = guess
        counted = understood(*guess, Fraction(1))
        if counted and isinstance(counted.value, Formula) and counted.value.number():
            read.append(counted)
    return [
        dataclasses.replace(reading, omissible=of_words and omissible(reading.unit, nouns))
        for reading in read
        if reading
    ]


def understood(found: list[Token], unit: str, worth: Fraction, formal: bool = False) -> Reading | None:
    """What the tokens are read as; letters alone only where they have a minus, and the text is `formal`."""
    if spelled := measures.spelled(" ".join(token.text for token in found)):
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


def last_number(text: str, *, lang: str = "en", percent: bool = True) -> Fraction | None:
    """The last number in the text, after `####` if that is there (GSM8K's layout).

    1 1/2, \\frac{3}{4}, 12 345, 10⁻³ and 25% are one number; where something is left to do, as in 84/2, the
    last numeral is, and none of 3² and √2.  Exponents and indices of letters are no numbers of their own.
    Without `percent`, 25% is 25.
    """
    text = powers.BOLD.sub(" ", text[-2000:].rpartition("####")[2])
    found = latex.tokens(text, lang, loose=powers.in_thousands(text))
    found = [token for token in measures.with_percent(found) if percent or token.text != "%"]
    last = powers.last_numeral(found)
    if last is None or _goes_on(found, last) or powers.undone(found, last):
        return None
    start, end = phrase(found, last)
    ways = [(start, end), (last, last + 1)]
    if found[end:] and found[end].text.lower() in words()["scales"]:
        ways = [(start, end + 1)]
    for start, end in ways:
        reading = understood(measures.parted(found[negative(found, start) : end])[0], "", Fraction(1))
        value = reading.value.number() if reading and isinstance(reading.value, Formula) else None
        done = reading and (not reading.undone or powers.is_of_ten(found, start, last))
        if value and done and (fraction := value.fraction()) is not None:
            return fraction
    return None


def _goes_on(tokens: Sequence[latex.Token], i: int) -> bool:
    """Whether numeral i is the end of a number that is written in a way we don't read: 10 000, 100,00."""
    before = [token for token in tokens[max(i - 2, 0) : i] if token.text.strip() not in ("", ",")]
    return bool(before) and before[-1].kind == "number" and re.fullmatch(r"0\d+", tokens[i].text) is not None


def says_last(text: str, expected: str, *, lang: str = "en") -> bool:
    """Whether the last number in the text is the expected one; 25% is said of 25, too."""
    wanted = number(expected, lang=lang)
    return wanted is not None and wanted in (
        last_number(text, lang=lang),
        None if "%" in expected else last_number(text, lang=lang, percent=False),
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
    if last > 4 and [*texts[last - 5 : last - 3], *texts[last + 1 : last + 2]] == FRAC:
        return last - 5, last + 2
    if last > 1 and texts[last - 1] == "/" and texts[last - 2][:1].isdigit():
        return last - 2, last + 1
    return last, last + 1


def negative(found: list[Token], start: int) -> int:
    """The start, with the minus before the number if that isn't between two."""
    if start and found[start - 1].text == "$":
        start -= 1
    if not start or found[start - 1].text != "-" or found[start].space:
        return start
    minus = start - 1
    if not minus or found[minus].space:
        return minus
    before = found[minus - 1]
    return start if before.kind != "sign" or before.text == ")" else minus
