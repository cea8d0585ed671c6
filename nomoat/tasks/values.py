"""Numbers whose equality is decided, quotients of sums of q*sqrt(n)*pi^k, and what is left to do in them.

The arithmetic is exact and has a budget.  Its results are only compared; how far a text has been worked out
is counted beside them: one for each operation that a rule below finds undone.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

MAX_BITS = 2048  # of a coefficient
MAX_RADICAND = 10**12
MAX_WORK = 10_000  # products of two terms
ROOT_WORK = 500  # what a root costs, in products

Sum = dict[tuple[int, int], Fraction]  # (square-free radicand, power of pi): coefficient
UNIT = (1, 0)
ONE: Sum = {UNIT: Fraction(1)}
PI: Sum = {(1, 1): Fraction(1)}


class Unread(Exception):
    """Not in the grammar, or beyond a limit."""


@dataclass(frozen=True, eq=False)
class Value:
    """The number top/below."""

    top: Sum
    below: Sum

    def fraction(self) -> Fraction | None:
        """The rational number that this plainly is."""
        if self.below != ONE or not set(self.top) <= {UNIT}:
            return None
        return self.top.get(UNIT, Fraction(0))


def like_terms(p: Sum, q: Sum, total: Sum) -> bool:
    """17+25, 2π-π, 5+0: a sum in which terms come together or nothing is added."""
    return len(total) < max(1, len(p)) + max(1, len(q))


def power(base: Value, exponent: int) -> bool:
    """2^10, π^1: every power but π^2, π^3, …"""
    return base.top != PI or exponent < 2


def product(a: Value, b: Value) -> bool:
    """6*7, √2√3, 2π*3π: every product but of two kinds, whole, root and power of π, as in 2√3, 3π, π√2."""
    terms = {*a.top, *b.top}
    if len(a.top) != 1 or len(b.top) != 1 or len(terms) != 2:
        return True
    radicands, powers = zip(*terms)
    if 1 not in a.top.values() and 1 not in b.top.values():
        return True
    return min(radicands) > 1 or 0 not in powers


def quotient(a: Value, b: Value) -> bool:
    """84/2, 2/4, 1/√2: every quotient but one of whole numbers in lowest terms."""
    divisor = b.fraction()
    if not divisor or abs(divisor) == 1 or a.below != ONE:
        return True
    counts = [*a.top.values(), divisor]
    in_wholes = all(count.denominator == 1 for count in counts)
    return not in_wholes or math.gcd(*map(int, counts)) > 1


def mixed_number(part: int, whole: int) -> bool:
    """1 2/4: a fraction beside a whole number that isn't in lowest terms."""
    return math.gcd(part, whole) > 1


def root(radicand: Fraction, outside: int, inside: int) -> bool:
    """√4, √12, √(1/2): a root that is a number, holds a square or a fraction."""
    return inside == 1 or outside != 1 or radicand.denominator != 1


class Arithmetic:
    """What is done with numbers, under one budget; raises Unread beyond it."""

    def __init__(self) -> None:
        self.work, self.undone = 0, 0

    def times(self, p: Sum, q: Sum) -> Sum:
        self.work += len(p) * len(q)
        if self.work > MAX_WORK:
            raise Unread
        total: Sum = {}
        for (n, a), x in p.items():
            for (m, b), y in q.items():
                common = math.gcd(n, m)
                term = (n * m // common**2, a + b)
                count = x * y * common
                if max(term[0], abs(count.numerator), count.denominator) >> MAX_BITS:
                    raise Unread
                total[term] = total.get(term, 0) + count
        return {term: count for term, count in total.items() if count}

    def ratio(self, top: Sum, below: Sum) -> Value:
        if not below:
            raise Unread
        if set(below) != {UNIT}:
            return Value(top, below)
        return Value(self.times(top, {UNIT: 1 / below[UNIT]}), ONE)

    def scaled(self, a: Value, factor: Fraction) -> Value:
        return Value(self.times(a.top, {UNIT: factor}), a.below)

    def plus(self, a: Value, b: Value, sign: int) -> Value:
        p, q = self.times(a.top, b.below), self.times(b.top, a.below)
        counts = {term: p.get(term, 0) + sign * q.get(term, 0) for term in p | q}
        total = {term: count for term, count in counts.items() if count}
        self.undone += like_terms(p, q, total)
        return self.ratio(total, self.times(a.below, b.below))

    def multiplied(self, a: Value, b: Value) -> Value:
        value = self.ratio(self.times(a.top, b.top), self.times(a.below, b.below))
        self.undone += product(a, b)
        return value

    def divided(self, a: Value, b: Value) -> Value:
        value = self.ratio(self.times(a.top, b.below), self.times(a.below, b.top))
        self.undone += quotient(a, b)
        return value

    def raised(self, a: Value, exponent: int) -> Value:
        if exponent <= 0 and not a.top:
            raise Unread
        self.undone += power(a, exponent)
        top = below = ONE
        for _ in range(abs(exponent)):
            top = self.times(top, a.top)
            below = self.times(below, a.below)
        return self.ratio(top, below) if exponent >= 0 else self.ratio(below, top)

    def rooted(self, a: Value, index: int) -> Value:
        radicand = a.fraction()
        self.work += ROOT_WORK
        if radicand is None or radicand < 0 or self.work > MAX_WORK:
            raise Unread
        n = radicand.numerator * radicand.denominator ** (index - 1)
        outside, inside = extracted(n, index)
        self.undone += root(radicand, outside, inside)
        count = Fraction(outside, radicand.denominator)
        return self.ratio({(inside, 0): count} if count else {}, ONE)

    def higher_root(self, radicand: Fraction, index: int) -> tuple[Fraction, int, int]:
        """(a, n, i): the root of this index is a times the i-th root of n, with the least n and i."""
        self.work += ROOT_WORK
        size = abs(radicand.numerator) * radicand.denominator ** (index - 1)
        even = index % 2 == 0
        if self.work > MAX_WORK or size > MAX_RADICAND or (radicand < 0 and even):
            raise Unread
        if not radicand:
            return radicand, 1, 1
        outside, inside = without_powers(size, index)
        count = Fraction(outside, radicand.denominator)
        if radicand < 0:
            count = -count
        left = index
        for part in (2, 3, 5, 7):
            while inside > 1 and left % part == 0 and (smaller := whole_root(inside, part)):
                inside, left = smaller, left // part
        self.undone += root(radicand, outside, inside) or left != index
        return count, inside, left

    def logarithm(self, a: Value, base: Value) -> int | None:
        """The whole power of the base that the number is, of fractions; None where there is none."""
        x, b = a.fraction(), base.fraction()
        if x is None or b is None or min(x, b) <= 0 or b == 1:
            return None
        self.work += ROOT_WORK
        size = max(x.numerator, x.denominator).bit_length()
        if self.work > MAX_WORK or size > MAX_BITS or max(b.numerator, b.denominator) > MAX_RADICAND:
            raise Unread
        if (x < 1) != (b < 1):
            power = self.logarithm(Value({UNIT: 1 / x}, ONE), base)
            return -power if power is not None else None
        found = Fraction(1)
        for power in range(size + 1):
            if found == x:
                return power
            found *= b
        return None

    def same(self, a: Value, b: Value) -> bool:
        """Whether the numbers are equal, whatever was left undone."""
        return self.times(a.top, b.below) == self.times(b.top, a.below)


def without_powers(n: int, index: int) -> tuple[int, int]:
    """(a, b): n is a**index * b, with the least b."""
    outside, d = 1, 2
    while n and d**index <= n:
        if n % d**index:
            d += 1
        else:
            n, outside = n // d**index, outside * d
    return outside, n


def whole_root(n: int, index: int) -> int | None:
    """The root of a number, where it is whole."""
    near = round(n ** (1 / index))
    return next((root for root in (near, near + 1) if root**index == n), None)


def extracted(n: int, index: int) -> tuple[int, int]:
    """(a, b): the root of n is a * sqrt(b), with b square-free.  Roots of a higher index have to be whole."""
    whole = math.isqrt(n) if index == 2 else round(min(n, MAX_RADICAND) ** (1 / index))
    if whole**index == n:
        return whole, 1
    if n > MAX_RADICAND or index > 2:
        raise Unread
    outside, inside, d = 1, 1, 2
    while d**3 <= n:
        if n % d:
            d += 1
        elif n % (d * d):
            n, inside = n // d, inside * d
        else:
            n, outside = n // (d * d), outside * d
    whole = math.isqrt(n)  # what is left has two prime factors at most
    return (outside * whole, inside) if whole**2 == n else (outside, inside * n)
