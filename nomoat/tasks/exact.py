r"""Answers compared exactly: numbers by value, all else by a plain form of its text.  Nothing is evaluated.

Read: integers, 1,234, decimals (German with lang="de"), 1e3, fractions, mixed numbers, percent, + - * x / ^,
brackets, \frac, \sqrt, pi, lists, tuples, intervals, sets (these in any order), $…$, \boxed{}, and the units
that a task names.  `values` says which numbers there are.

An answer has to be worked out as far as what is expected: 17+25 is not 42, 84/2 is not 42, 2/4 is not 1/2.
Otherwise the question would be an answer.  As in MATH's own grading, degrees, `\$`, a \text{unit} at the end
and `x =` may be left out.  What is longer, deeper or larger than the limits isn't read, and compares as text.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from nomoat.tasks import values
from nomoat.tasks.values import ONE, PI, UNIT, Arithmetic, Unread, Value

MAX_TEXT = 400  # characters that are read
MAX_PLAIN = 4000  # characters that compare as text
MAX_DEPTH = 24  # brackets within brackets
MAX_PARTS = 40  # values side by side
MAX_EXPONENT = 64

# What only adds to a number's looks, and what is put there; in this order.
LOOKS = (
    (r"\s+", " "),
    (r"\\(?:left|right|displaystyle)(?![a-zA-Z])", ""),
    (r"\\[dtc]frac", r"\\frac"),
    (r"\^ ?\{? ?\\circ ?\}?|°", ""),
    (r"(?<=[0-9])(?:\\[,;:]|,?\\!|\{,\})(?=[0-9]{3}(?![0-9]))", ""),
    (r"\\[$,;:!() \[\]]|[$~]|\\q?quad(?![a-zA-Z])", " "),
    (r"\\%", "%"),
    (r" +", " "),
)
WRAPPED = (r"\\(?:text(?:bf|it|rm)?|mbox|mathrm|mathbf) ?\{([^{}]*)\}", r" \1 ")  # "5 \text{ or } 7"
# Other ways to write the signs of the grammar; in this order.
SIGNS = (
    WRAPPED,
    (r",? ?\b(?:and|or|und|oder)\b ?", ", "),
    (r"\\([{}])", r"\1"),
    (r"\\(?:cdot|times)(?![a-zA-Z])|[×·⋅]", "*"),
    (r"\*\*", "^"),
    (r"\\div(?![a-zA-Z])|÷", "/"),
    (r"−", "-"),
    (r"\\pi(?![a-zA-Z])|\bpi\b", "π"),
    (r"(?<=[0-9]) ?x ?(?=[0-9])", "*"),
    (r"(?:√|(?<!\\)\bsqrt) ?([0-9]+)", r"\\sqrt{\1}"),
    (r"√|(?<!\\)\bsqrt\b", r"\\sqrt"),
    (r"\\(frac|sqrt) ?([0-9π])", r"\\\1{\2}"),
    (r"(\\frac ?\{[^{}]*\}) ?([0-9π])", r"\1{\2}"),
    (r"(?<=[0-9]) ?\* ?10 ?\^ ?(?:\{(-?[0-9]{1,3})\}|(-?[0-9]{1,3}))(?![0-9])", r"e\1\2"),
)
DENIAL = re.compile(r"\bnot\b|n't\b|\bnicht\b|\bkein", re.IGNORECASE)  # words beside which an answer is none
UNIT_AT_END = re.compile(r"(?<=[^ ]) ?\\(?:text|mbox|mathrm|textrm) ?\{([^{}0-9]*)\} ?(\^ ?\{?[23]\}?)?$")
UNKNOWN = re.compile(r"^[a-zA-Z] ?= ?(?=[^a-zA-Z=]+$|\\)")  # "x =" before a number
MIXED = re.compile(r"(?: *\\frac *\{([0-9]+)\} *\{([0-9]+)\}| +([0-9]+) */ *([0-9]+))(?![0-9.])")
EXPONENT = re.compile(
    r" *(?:\{ *([-+]?[0-9]{1,4}) *\}|\( *([-+]?[0-9]{1,4}) *\)|([-+]?[0-9]{1,4}))(?![0-9.])"
)
INDEX = re.compile(r" ?\[ ?([2-9]) ?\]")
BOX = re.compile(r"\\f?box(?:ed)? ?(?:\{|([^\s$]+))")
POWER_OF_TEN = r"(?P<e>[eE][-+]?[0-9]{1,3}(?![0-9]))?"
# A whole part with or without separators of thousands, a decimal part, a power of ten.
NUMBER = {
    "en": re.compile(
        r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]|,[0-9])|[0-9]+|(?=\.[0-9]))(?P<part>\.[0-9]+)?"
        + POWER_OF_TEN
    ),
    "de": re.compile(
        r"(?P<whole>[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?![0-9]|\.[0-9])|[0-9]+|(?=[.,][0-9]))"
        r"(?P<part>[.,][0-9]+)?" + POWER_OF_TEN
    ),
}
CLOSERS = {"(": ")]", "[": ")]", "{": "}"}


def equal(answer: str, expected: str, *, units: Mapping[str, Any] | None = None, lang: str = "en") -> bool:
    """Whether the answer says what is expected, and is worked out as far.  Total, and bounded in time."""
    if max(len(answer), len(expected)) > MAX_PLAIN:
        return answer.strip() == expected.strip()
    denied = DENIAL.search(answer) and not DENIAL.search(expected)
    if denied or answer.count("\\boxed") > 1:
        return False
    answer, expected = clean(answer), clean(expected)
    if ("=" in answer) != ("=" in expected):
        answer, expected = UNKNOWN.sub("", answer), UNKNOWN.sub("", expected)
    a, b = parse(answer, units=units, lang=lang), parse(expected, units=units, lang=lang)
    if a is None or b is None:
        return plain(answer) == plain(expected) != ""
    if a.undone > b.undone or (not units and two_units(answer, expected)):
        return False
    try:
        return Arithmetic().same(a, b)
    except Unread:
        return False


def two_units(*texts: str) -> bool:
    units = filter(None, map(UNIT_AT_END.search, texts))
    return len({plain(unit[0]) for unit in units}) > 1


def parse(text: str, *, units: Mapping[str, Any] | None = None, lang: str = "en") -> Value | None:
    """The value of the text, or None where it is neither a number nor made of numbers."""
    if len(text) > MAX_PLAIN or len(text := clean(text)) > MAX_TEXT:
        return None
    text, factor = without_unit(text, units or {})
    reader = Reader(replaced(text, SIGNS), lang)
    try:
        value = reader.several()
        if factor != 1:
            value = reader.arithmetic.scaled(value, factor)
    except Unread:
        return None
    return replace(value, undone=reader.arithmetic.undone)


def without_unit(text: str, units: Mapping[str, Any]) -> tuple[str, Fraction]:
    """(text without its unit, what that is worth): one that the task names, else any \\text{} at the end."""
    if not units:
        return UNIT_AT_END.sub("", text), Fraction(1)
    text = replaced(text, [WRAPPED]).rstrip()
    for name in sorted(units, key=len, reverse=True):
        rest = text.removesuffix(name).rstrip()
        if rest in ("", text) or (rest[-1].isalpha() and name[0].isalpha()):
            continue  # no such unit, or the end of a longer word
        return rest, Fraction(str(units[name]))
    return text, Fraction(1)


def number(text: str, *, lang: str = "en") -> Fraction | None:
    """The rational number that the text is."""
    value = parse(text, lang=lang)
    return value.fraction() if value else None


def last_number(text: str, *, lang: str = "en") -> Fraction | None:
    """The last number in the text, after `####` if that is there (GSM8K's layout)."""
    tail = text[-2000:].rpartition("####")[2]
    numbers = list(NUMBER[lang].finditer(tail))
    if not numbers:
        return None
    last = numbers[-1]
    minus = re.search(r"(?<![0-9)a-zA-Z])[-\u2212]\$?$", tail[: last.start()])
    return number(f"-{last[0]}" if minus else last[0], lang=lang)


def boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{} (MATH's layout)."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    box = BOX.match(text, start) if start >= 0 else None
    if not box:
        return None
    if box[1]:  # \boxed 5
        return box[1]
    depth, first = 1, box.end()
    for place in range(first, min(len(text), first + MAX_PLAIN - 1)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[first:place]
    return None


def clean(text: str) -> str:
    """What is in the box, if there is one, without what is only looks and one full stop at the end."""
    return re.sub(r"(?<!\.) ?\.$", "", replaced(boxed(text) or text, LOOKS).strip())


def plain(text: str) -> str:
    """What texts that aren't numbers are compared by: no blanks beside signs, no capital ASCII letters."""
    text = re.sub(r"\{(\w)\}", r"\1", replaced(clean(text), [WRAPPED]))
    text = re.sub(r" *(\W) *", r"\1", re.sub(r" +", " ", text.strip()))
    text = re.sub(r"^\((\w)\)$", r"\1", text)
    return re.sub(r"[A-Z]", lambda letter: letter[0].lower(), text)


def replaced(text: str, table: Iterable[tuple[str, str]]) -> str:
    for pattern, put in table:
        text = re.sub(pattern, put, text)
    return text


class Reader:
    """One text, read from left to right by recursive descent."""

    def __init__(self, text: str, lang: str) -> None:
        self.text, self.number, self.at, self.depth = text, NUMBER[lang], 0, 0
        self.arithmetic = Arithmetic()

    def take(self, *tokens: str) -> str:
        while self.text.startswith(" ", self.at):
            self.at += 1
        token = next((t for t in tokens if self.text.startswith(t, self.at)), "")
        self.at += len(token)
        return token

    def match(self, pattern: re.Pattern) -> re.Match | None:
        if match := pattern.match(self.text, self.at):
            self.at = match.end()
        return match

    def several(self, opened: str = "") -> Value:
        """Values between commas, to the closing bracket or the end; the value itself where there is one."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unread
        parts = [self.sum()]
        while self.take(",", ";"):
            parts.append(self.sum())
        closed = self.take(*CLOSERS[opened]) if opened else ","
        ended = closed if opened else self.at == len(self.text)
        kind = opened + closed
        if not ended or len(parts) > MAX_PARTS or (len(parts) == 1 and kind not in (",", "()", "{}")):
            raise Unread
        self.depth -= 1
        return parts[0] if len(parts) == 1 else Value(None, ONE, kind, tuple(parts))

    def sum(self) -> Value:
        value = self.term()
        while sign := self.take("+", "-"):
            value = self.arithmetic.plus(value, self.term(), -1 if sign == "-" else 1)
        return value

    def term(self) -> Value:
        value = self.factor()
        while sign := self.take("*", "/", "(", "π", "\\sqrt"):
            if sign == "/":
                value = self.arithmetic.divided(value, self.factor())
                continue
            if sign != "*":  # 2(3), 2π, 2\sqrt{3}
                self.at -= len(sign)
            value = self.arithmetic.multiplied(value, self.factor())
        return value

    def factor(self) -> Value:
        sign, value = self.take("+", "-"), self.power()
        return self.arithmetic.scaled(value, Fraction(-1)) if sign == "-" else value

    def power(self) -> Value:
        value = self.primary()
        while self.take("%"):
            value = self.arithmetic.scaled(value, Fraction(1, 100))
        if not self.take("^"):
            return value
        match = self.match(EXPONENT)
        if not match or abs(exponent := int(match[match.lastindex])) > MAX_EXPONENT:
            raise Unread
        return self.arithmetic.raised(value, exponent)

    def primary(self) -> Value:
        if opened := self.take("(", "[", "{"):
            return self.several(opened)
        if self.take("π"):
            return Value(PI, ONE)
        if self.take("\\frac"):
            return self.arithmetic.divided(self.primary(), self.primary())
        if self.take("\\sqrt"):
            index = self.match(INDEX)
            return self.arithmetic.rooted(self.primary(), int(index[1]) if index else 2)
        return self.numeral()

    def numeral(self) -> Value:
        match = self.match(self.number)
        if not match:
            raise Unread
        whole = re.sub("[^0-9]", "", match["whole"])
        part, e = match["part"], match["e"]
        value = Fraction(f"{whole or 0}.{(part or '.0')[1:]}{e or ''}")
        if not part and not e:
            value += self.mixed()
        return self.arithmetic.ratio({UNIT: value} if value else {}, ONE)

    def mixed(self) -> Fraction:
        """The fraction of a mixed number, after its whole part; 0 where there is none."""
        match = self.match(MIXED)
        if not match:
            return Fraction(0)
        top, below = (int(digits) for digits in match.groups() if digits)
        if not 0 < top < below:
            raise Unread
        self.arithmetic.undone += values.mixed_number(top, below)
        return Fraction(top, below)
