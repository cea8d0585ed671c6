r"""Answers compared exactly: numbers by value, everything else by a plain form of its text.  Nothing is evaluated.

Read: integers, 1,234, decimals (German with lang="de"), 1e3, fractions, mixed numbers, percent, + - * x / ^ **, brackets,
\frac, \sqrt, pi, lists, tuples, intervals, sets (these in any order), $…$, \boxed{}, and the units that a task names.
A number is a quotient of sums of q*sqrt(n)*pi^k, so that equality is decided.

An answer has to be worked out as far as what is expected: 17+25 is not 42, 84/2 is not 42, 2/4 is not 1/2.  Otherwise
the question would be an answer.  As in MATH's own grading, degrees, `\$`, a \text{unit} at the end and `x =` may be left
out.  What is longer, deeper or larger than the limits is not read, and compares as text.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from nomoat.tasks.base import shipped

MAX_TEXT = 400  # characters that are read
MAX_PLAIN = 4000  # characters that compare as text
MAX_DEPTH = 24  # brackets within brackets
MAX_PARTS = 40  # values side by side
MAX_BITS = 2048  # of a coefficient
MAX_EXPONENT = 64
MAX_RADICAND = 10**12
MAX_WORK = 10_000  # products of two terms
patterns = lambda: shipped(__file__)

Sum = dict[tuple[int, int], Fraction]  # (square-free radicand, power of pi): coefficient
UNIT = (1, 0)
ONE: Sum = {UNIT: Fraction(1)}
PI: Sum = {(1, 1): Fraction(1)}


class Unread(Exception):
    """Not in the grammar, or beyond a limit."""


@dataclass(frozen=True, eq=False)
class Value:
    """The number top/below where `kind` is empty, else several values: ",", "()", "[)", …, or "{}" in any order."""

    top: Sum | None
    below: Sum
    kind: str = ""
    parts: tuple["Value", ...] = ()
    undone: int = 0  # operations that are left to do in the whole text

    def fraction(self) -> Fraction | None:
        """The rational number that this plainly is."""
        rational = not self.kind and self.below == ONE and set(self.top) <= {UNIT}
        return self.top.get(UNIT, Fraction(0)) if rational else None


def equal(answer: str, expected: str, *, units: Mapping[str, Any] | None = None, lang: str = "en") -> bool:
    """Whether the answer says what is expected, and is worked out as far.  Total, and bounded in time."""
    if max(len(answer), len(expected)) > MAX_PLAIN:
        return answer.strip() == expected.strip()
    denied = [bool(re.search(patterns()["denial"], text)) for text in (answer, expected)]
    if answer.count("\\boxed") > 1 or denied == [True, False]:
        return False
    answer, expected = clean(answer), clean(expected)
    if ("=" in answer) != ("=" in expected):
        answer, expected = (re.sub(r"^[a-zA-Z] ?= ?(?=[^a-zA-Z=]+$|\\)", "", text) for text in (answer, expected))
    a, b = (parse(text, units=units, lang=lang) for text in (answer, expected))
    if a is None or b is None:
        return plain(answer) == plain(expected) != ""
    named = {plain(found[0]) for text in (answer, expected) if (found := re.search(patterns()["unit"], text))}
    try:
        return a.undone <= b.undone and (len(named) < 2 or bool(units)) and Reader("", lang).same(a, b)
    except Unread:
        return False


def parse(text: str, *, units: Mapping[str, Any] | None = None, lang: str = "en") -> Value | None:
    """The value of the text, or None where it is neither a number nor made of numbers."""
    if len(text) > MAX_PLAIN or len(text := clean(text)) > MAX_TEXT:
        return None
    factor, (wrapped, unwrapped) = Fraction(1), patterns()["signs"][0]
    text = re.sub(wrapped, unwrapped, text).rstrip() if units else re.sub(patterns()["unit"], "", text)
    for name in sorted(units or (), key=len, reverse=True):
        rest = text.removesuffix(name).rstrip()
        if rest and rest != text and not (rest[-1].isalpha() and name[0].isalpha()):
            text, factor = rest, Fraction(str(units[name]))
            break
    for pattern, put in patterns()["signs"]:
        text = re.sub(pattern, put, text)
    reader = Reader(text, lang)
    try:
        value = reader.several()
        value = value if factor == 1 else replace(value, top=reader.times(value.top, {UNIT: factor}))
    except Unread:
        return None
    return replace(value, undone=reader.undone)


def number(text: str, *, lang: str = "en") -> Fraction | None:
    """The rational number that the text is."""
    value = parse(text, lang=lang)
    return value.fraction() if value else None


def boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{} (MATH's layout)."""
    at, depth = max(text.rfind("\\boxed"), text.rfind("\\fbox")), 0
    if at < 0 or not (found := re.compile(r"\\f?box(?:ed)? ?(?:\{|([^\s$]+))").match(text, at)) or found[1]:
        return found[1] if at >= 0 and found else None
    for i, c in enumerate(text[found.end() - 1 :][:MAX_PLAIN], found.end() - 1):
        depth += (c == "{") - (c == "}")
        if depth == 0:
            return text[found.end() : i]
    return None


def last_number(text: str, *, lang: str = "en") -> Fraction | None:
    """The last number in the text, after `####` if that is there (GSM8K's layout)."""
    tail, last = text[-2000:].rpartition("####")[2], None
    for last in re.finditer(patterns()["number"][lang], tail):  # noqa: B007
        pass
    minus = last and re.search(r"(?<![0-9)a-zA-Z])[-\u2212]\$?$", tail[: last.start()])
    return number("-" * bool(minus) + last[0], lang=lang) if last else None


def clean(text: str) -> str:
    """The text in a box, if there is one, without what LaTeX adds to a number's looks, and one full stop at the end."""
    text = boxed(text) or text
    for pattern, put in patterns()["looks"]:
        text = re.sub(pattern, put, text)
    return re.sub(r"(?<!\.) ?\.$", "", text.strip())


def plain(text: str) -> str:
    """What two texts that aren't numbers are compared by: blanks beside signs and the case of ASCII letters go."""
    text = re.sub(r"\{(\w)\}", r"\1", re.sub(*patterns()["signs"][0], clean(text)))
    text = re.sub(r" *(\W) *", r"\1", re.sub(r" +", " ", text.strip()))
    return re.sub(r"[A-Z]", lambda c: c[0].lower(), re.sub(r"^\((\w)\)$", r"\1", text))


class Reader:
    """One text, read from left to right by recursive descent; counts what it spends and what was left undone."""

    def __init__(self, text: str, lang: str) -> None:
        self.text, self.lang, self.at, self.depth, self.work, self.undone = text, lang, 0, 0, 0, 0

    def take(self, *tokens: str) -> str:
        while self.text.startswith(" ", self.at):
            self.at += 1
        token = next((t for t in tokens if self.text.startswith(t, self.at)), "")
        self.at += len(token)
        return token

    def match(self, pattern: str) -> re.Match | None:
        if found := re.compile(pattern).match(self.text, self.at):
            self.at = found.end()
        return found

    def several(self, opened: str = "") -> Value:
        """Values between commas, to the closing bracket or the end; the value itself where there is one."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unread
        parts = [self.sum()]
        while self.take(",", ";"):
            parts.append(self.sum())
        kind = opened + self.take(*("}" if opened == "{" else ")]")) if opened else ","
        whole = kind != opened and (opened or self.at == len(self.text)) and len(parts) <= MAX_PARTS
        if not whole or (len(parts) == 1 and kind not in (",", "()", "{}")):
            raise Unread
        self.depth -= 1
        return parts[0] if len(parts) == 1 else Value(None, ONE, kind, tuple(parts))

    def sum(self) -> Value:
        a = self.term()
        while sign := self.take("+", "-"):
            b = self.term()
            top, other = self.times(a.top, b.below), self.times(b.top, a.below)
            other = other if sign == "+" else {m: -c for m, c in other.items()}
            both = {m: c for m in {**top, **other} if (c := top.get(m, 0) + other.get(m, 0))}
            self.undone += len(both) < max(1, len(top)) + max(1, len(other))  # like terms
            a = self.ratio(both, self.times(a.below, b.below))
        return a

    def term(self) -> Value:
        value = self.factor()
        while sign := self.take("*", "/", "(", "π", "\\sqrt"):
            if sign not in "*/":  # 2(3), 2π, 2\sqrt{3}
                self.at -= len(sign)
            value = self.over(value, self.factor()) if sign == "/" else self.product(value, self.factor())
        return value

    def factor(self) -> Value:
        sign, value = self.take("+", "-"), self.power()
        return Value(self.times(value.top, {UNIT: Fraction(-1)}), value.below) if sign == "-" else value

    def power(self) -> Value:
        value = self.primary()
        while self.take("%"):
            value = self.ratio(self.times(value.top, {UNIT: Fraction(1, 100)}), value.below)
        if not self.take("^"):
            return value
        found = self.match(patterns()["power"])
        if not found or abs(n := int(found[found.lastindex])) > MAX_EXPONENT or (n <= 0 and not value.top):
            raise Unread
        self.undone += value.top != PI or n < 2
        top = below = ONE
        for _ in range(abs(n)):
            top, below = self.times(top, value.top), self.times(below, value.below)
        return self.ratio(top, below) if n >= 0 else self.ratio(below, top)

    def primary(self) -> Value:
        if opened := self.take("(", "[", "{"):
            return self.several(opened)
        if self.take("π"):
            return Value(PI, ONE)
        if self.take("\\frac"):
            return self.over(self.primary(), self.primary())
        if self.take("\\sqrt"):
            index = self.match(r" ?\[ ?([2-9]) ?\]")
            return self.root(self.primary().fraction(), int(index[1]) if index else 2)
        if not (found := self.match(patterns()["number"][self.lang])):
            raise Unread
        whole = re.sub("[^0-9]", "", found["whole"]) or "0"
        value = Fraction(f"{whole}.{(found['part'] or '.0')[1:]}{found['e'] or ''}")
        if not found["part"] and not found["e"] and (mixed := self.match(patterns()["mixed"])):
            a, b = (int(n) for n in mixed.groups() if n)
            if not 0 < a < b:
                raise Unread
            self.undone += math.gcd(a, b) > 1
            value += Fraction(a, b)
        return self.ratio({UNIT: value} if value else {}, ONE)

    def times(self, p: Sum | None, q: Sum | None) -> Sum:
        if p is None or q is None:
            raise Unread  # several values
        self.work += len(p) * len(q)
        total: Sum = {}
        for (n, a), x in p.items():
            for (m, b), y in q.items():
                g = math.gcd(n, m)
                place, c = (n * m // g**2, a + b), x * y * g
                total[place] = total.get(place, 0) + c
                if max(map(int.bit_length, (place[0], c.numerator, c.denominator))) > MAX_BITS or self.work > MAX_WORK:
                    raise Unread
        return {m: c for m, c in total.items() if c}

    def ratio(self, top: Sum, below: Sum) -> Value:
        if not below:
            raise Unread
        return Value(self.times(top, {UNIT: 1 / below[UNIT]}), ONE) if set(below) == {UNIT} else Value(top, below)

    def product(self, a: Value, b: Value) -> Value:
        value = self.ratio(self.times(a.top, b.top), self.times(a.below, b.below))
        apart = len(a.top) == len(b.top) == 1 and len(places := {*a.top, *b.top}) == 2  # q*sqrt(n), q*pi, pi*sqrt(n)
        apart = apart and not all(n > 1 for n, _ in places) and not all(k for _, k in places)
        self.undone += not (apart and 1 in (*a.top.values(), *b.top.values()))
        return value

    def over(self, a: Value, b: Value) -> Value:
        value, c = self.ratio(self.times(a.top, b.below), self.times(a.below, b.top)), b.fraction()
        counts = [*a.top.values(), c or Fraction(0)]
        lowest = a.below == ONE and all(x.denominator == 1 for x in counts) and math.gcd(*map(int, counts)) == 1
        self.undone += not (lowest and c and abs(c) != 1)
        return value

    def root(self, q: Fraction | None, index: int) -> Value:
        self.work += 500
        if q is None or q < 0 or self.work > MAX_WORK:
            raise Unread
        n, out, d = q.numerator * q.denominator ** (index - 1), 1, 2
        whole = math.isqrt(n) if index == 2 else round(min(n, MAX_RADICAND) ** (1 / index))
        if whole**index != n and (n > MAX_RADICAND or index > 2):
            raise Unread
        while whole**index != n and d**3 <= MAX_RADICAND:
            if n % (d * d) == 0:
                n, out = n // (d * d), out * d
                whole = math.isqrt(n)  # a square beyond the cube root would be all that is left
            else:
                d += 1
        n, out = (1, out * whole) if whole**index == n else (n, out)
        self.undone += n == 1 or out != 1 or q.denominator != 1
        return self.ratio({(n, 0): Fraction(out, q.denominator)} if out else {}, ONE)

    def same(self, a: Value, b: Value) -> bool:
        """Whether the values are equal, whatever was left undone."""
        if (a.kind != b.kind and {a.kind, b.kind} != {",", "{}"}) or len(a.parts) != len(b.parts):
            return False
        if not a.kind:
            return self.times(a.top, b.below) == self.times(b.top, a.below)
        if (a.kind, b.kind) != ("{}", "{}"):
            return all(map(self.same, a.parts, b.parts))
        return all(sum(self.same(x, y) for x in a.parts) == sum(self.same(x, y) for x in b.parts) for y in b.parts)
