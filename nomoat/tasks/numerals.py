"""Tokens of an answer, read one after the other, and the numbers among them."""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from nomoat.tasks import values
from nomoat.tasks.formulas import Algebra, Answer, Formula, rational
from nomoat.tasks.latex import Token, worth
from nomoat.tasks.values import Unread

MAX_DEPTH = 24  # brackets within brackets
FRACTION = ["frac", "{", "}", "{", "}"]


class Numerals:
    """A place among tokens; what is read from there on moves it."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens, self.at, self.depth = tokens, 0, 0
        self.algebra = Algebra()
        self.powers_of_ten = 0  # that numbers are written with: 3 * 10^8, 3e8

    def ahead(self, place: int = 0) -> Token:
        at = self.at + place
        return self.tokens[at] if at < len(self.tokens) else Token("end", "")

    def take(self, *texts: str) -> str:
        token = self.ahead()
        if token.text in texts:
            self.at += 1
            return token.text
        return ""

    def expect(self, *texts: str) -> str:
        if taken := self.take(*texts):
            return taken
        raise Unread

    def deeper(self, part: Callable[[], Answer]) -> Answer:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unread
        value = part()
        self.depth -= 1
        return value

    def numeral(self) -> Answer:
        text = self.ahead().text
        value = self.decimal()
        if text.isdigit():
            value = rational(value.number().top.get(values.UNIT, Fraction(0)) + self.mixed())
        return self.ten(value)

    def decimal(self) -> Formula:
        """The number of one token."""
        token = self.ahead()
        if token.kind != "number" or self.of_thousands(token):
            raise Unread
        self.at += 1
        self.powers_of_ten += "e" in token.text
        return rational(worth(token.text))

    def of_thousands(self, token: Token) -> bool:
        """Whether a comma may part thousands where it parts values: (1,050), (2,007)."""
        last = self.ahead(-1)
        return last.text == "," and not token.space and re.fullmatch("0[0-9]{2}", token.text) is not None

    def ten(self, value: Formula) -> Formula:
        """The number with its power of ten, if one follows: 3 * 10^8."""
        start = self.at
        times = self.take("*") or (self.ahead(1).text == "10" and self.take("x"))
        if times and self.take("10") and self.take("^"):
            power = self.exponent()
            n = power.whole() if isinstance(power, Formula) else None
            if n is not None and abs(n) < 1000 and (fraction := value.number().fraction()) is not None:
                self.powers_of_ten += 1
                return rational(fraction * Fraction(10) ** n)
        self.at = start
        return value

    def mixed(self) -> Fraction:
        """The fraction of a mixed number, after its whole part; 0 where there is none."""
        texts = [token.text for token in self.tokens[self.at : self.at + 7]]
        if len(texts) == 7 and [*texts[:2], *texts[3:5], texts[6]] == FRACTION:
            top, below, size = texts[2], texts[5], 7
        elif len(texts) > 2 and texts[1] == "/" and self.ahead().space:
            top, below, size = texts[0], texts[2], 3
        else:
            return Fraction(0)
        if not (top.isdigit() and below.isdigit()):
            return Fraction(0)
        top, below = int(top), int(below)
        if not 0 < top < below:
            raise Unread
        self.at += size
        self.algebra.numbers.undone += values.mixed_number(top, below)
        return Fraction(top, below)
