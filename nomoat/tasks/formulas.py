"""Formulas with letters, compared by their form: sums and products in any order, numbers by value.

Nothing is multiplied out, factored or cancelled: (x+1)(x+2) is (2+x)(1+x) and not x^2+3x+2, since one of them
may be the question.  A formula without letters is a number of `values`.  Several of them, in brackets or
not, are a `Several`.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from nomoat.tasks import values
from nomoat.tasks.values import ONE, UNIT, Arithmetic, Unread, Value

Key = tuple  # of nested tuples, texts and fractions: equal where the forms are
Monomial = tuple  # of (atom's key, exponent), in order
NUMBER: Monomial = ()
MAX_TERMS = 60
MAX_FACTORIAL = 60  # what a factorial or a binomial is computed of
UNITY = Value(ONE, ONE)
UNORDERED = ("{}", "∪", "cases")
RELATIONS = ("=", "<", "≤", ">", "≥", "≠", "∈")


@dataclass(frozen=True, eq=False)
class Formula:
    """A sum of coefficient * monomial; never empty."""

    terms: dict[Monomial, Value]

    def number(self) -> Value | None:
        """The number that this is, where it has no letters."""
        return self.terms.get(NUMBER) if len(self.terms) == 1 else None

    def whole(self) -> int | None:
        """The whole number that this plainly is."""
        value = self.number()
        fraction = value.fraction() if value else None
        return int(fraction) if fraction is not None and fraction.denominator == 1 else None

    def letter(self) -> str | None:
        """The letter, or the name f of f(x), that this is."""
        name = self.name()
        return name if name and len(name) == 1 else None

    def name(self) -> str | None:
        """The letter that this is, or the name of the function of something."""
        monomial, value = next(iter(self.terms.items()))
        if len(self.terms) > 1 or len(monomial) != 1 or value is not UNITY:
            return None
        (kind, name, *_), exponent = monomial[0]
        if exponent != 1 or kind not in ("letter", "function"):
            return None
        return name


@dataclass(frozen=True, eq=False)
class Several:
    """`kind`: "," a list, "()" "[)" … a tuple or interval, "{}" a set, "∪" a union, "matrix" and "cases" of
    "row"s, ":" a ratio, or a relation such as "=" or "≤<"."""

    kind: str
    parts: tuple["Formula | Several", ...]


Answer = Formula | Several


def key_of(formula: Answer) -> Key:
    if isinstance(formula, Several):
        return (formula.kind, *map(key_of, formula.parts))
    return ("sum", *sorted(((m, number_key(v)) for m, v in formula.terms.items()), key=repr))


def number_key(value: Value) -> Key:
    return tuple(tuple(sorted(part.items())) for part in (value.top, value.below))


def number(value: Value) -> Formula:
    return Formula({NUMBER: value})


def rational(value: Fraction) -> Formula:
    return number(whole(value))


def whole(value: Fraction | int) -> Value:
    return Value({UNIT: Fraction(value)} if value else {}, ONE)


def atom(*key: object, exponent: object = 1) -> Formula:
    return Formula({((key, exponent),): UNITY})


class Algebra:
    """What is done with formulas, under one budget; raises Unread beyond it and for what isn't one."""

    def __init__(self) -> None:
        self.numbers = Arithmetic()

    def plus(self, a: Answer, b: Answer, sign: int) -> Formula:
        (p, q), terms = (terms_of(a), terms_of(b)), {}
        terms |= p
        for monomial, value in q.items():
            value = value if sign > 0 else self.numbers.scaled(value, Fraction(-1))
            if monomial in terms:
                value = self.numbers.plus(terms[monomial], value, 1)
            terms[monomial] = value
        if len(terms) > MAX_TERMS:
            raise Unread
        return Formula(terms)

    def negative(self, a: Answer) -> Formula:
        return Formula({m: self.numbers.scaled(v, Fraction(-1)) for m, v in terms_of(a).items()})

    def opposite(self, a: Answer) -> Formula:
        """-a; undone where a is a negative number, as in -(-5)."""
        value = a.number() if isinstance(a, Formula) else None
        fraction = value.fraction() if value else None
        self.numbers.undone += fraction is not None and fraction < 0
        return self.negative(a)

    def times(self, a: Answer, b: Answer) -> Answer:
        if isinstance(a, Formula) and isinstance(b, Several) and b.kind == "matrix":
            return Several("·", (a, b))
        (m, x), (n, y) = map(self.factor, (a, b))
        return Formula({self.merged(m, n): self.coefficient(x, y, m, n)})

    def coefficient(self, x: Value, y: Value, m: Monomial, n: Monomial) -> Value:
        """x * y; the 1 before a letter is no factor that is left to multiply."""
        if (m and x is UNITY) or (n and y is UNITY):
            return y if m and x is UNITY else x
        return self.numbers.multiplied(x, y)

    def merged(self, m: Monomial, n: Monomial) -> Monomial:
        exponents = dict(m)
        for key, exponent in n:
            if key in exponents:
                if not isinstance(exponent, int) or not isinstance(exponents[key], int):
                    raise Unread
                self.numbers.undone += 1
                exponent += exponents[key]
            exponents[key] = exponent
        return tuple(sorted(exponents.items(), key=repr))

    def factor(self, a: Answer) -> tuple[Monomial, Value]:
        """(monomial, coefficient) of a formula that is to be multiplied; a sum in brackets is one atom."""
        terms = terms_of(a)
        if len(terms) == 1:
            return next(iter(terms.items()))
        first = min(terms, key=repr)
        if leading_minus(terms[first]):  # -(x-1) for 1-x
            return ((key_of(self.negative(a)), 1),), Value({UNIT: Fraction(-1)}, ONE)
        return ((key_of(a), 1),), UNITY

    def over(self, a: Answer, b: Answer) -> Formula:
        divisor = numeric(b)
        if divisor is not None:
            return self.shared(terms_of(a), divisor)
        monomial, value = self.factor(b)
        inverse = tuple((key, negated(exponent)) for key, exponent in monomial)
        m, x = self.factor(a)
        if value is not UNITY:
            x = self.numbers.divided(x, value)
        return Formula({self.merged(m, inverse): x})

    def shared(self, terms: dict[Monomial, Value], divisor: Value) -> Formula:
        """The sum with each term divided; undone where all of them could be."""
        undone = self.numbers.undone
        shares = {m: self.numbers.divided(value, divisor) for m, value in terms.items()}
        if len(terms) > 1:
            self.numbers.undone = undone + values.quotient(together(terms), divisor)
        return Formula(shares)

    def power(self, a: Answer, exponent: Answer, limit: int) -> Formula:
        n = exponent.whole() if isinstance(exponent, Formula) else None
        power = n
        if n is None:
            power = key_of(exponent)
        value = numeric(a)
        if value is None:
            return Formula({((base_of(a), power),): UNITY})
        if n is not None and abs(n) <= limit:
            return number(self.numbers.raised(value, n))
        part = numeric(exponent) if isinstance(exponent, Formula) else None
        fraction = part.fraction() if part else None
        if fraction and abs(fraction.numerator) <= limit and 1 < fraction.denominator < 10:
            return self.broken_power(value, fraction)
        return atom("base", number_key(value), exponent=power)

    def broken_power(self, value: Value, exponent: Fraction) -> Formula:
        if exponent.numerator != 1:
            value = self.numbers.raised(value, exponent.numerator)
        return self.root(number(value), exponent.denominator)

    def root(self, a: Answer, index: int) -> Formula:
        value = numeric(a)
        if value is None:
            return atom("root", index, key_of(a))
        radicand = value.fraction()
        if index == 2 or radicand is None:
            return number(self.numbers.rooted(value, index))
        outside, inside, left = self.numbers.higher_root(radicand, index)
        if left == 2:
            return number(self.numbers.scaled(self.numbers.rooted(whole(inside), 2), outside))
        if inside == 1:
            return rational(outside)
        monomial = ((("root", left, inside), 1),)
        return Formula({monomial: UNITY if outside == 1 else Value({UNIT: outside}, ONE)})

    def factorial(self, a: Answer) -> Formula:
        """a!; as it stands where it isn't computed."""
        n = a.whole() if isinstance(a, Formula) else None
        if n is None or not 0 <= n <= MAX_FACTORIAL:
            return atom("factorial", key_of(a))
        self.numbers.undone += 1
        return rational(Fraction(math.factorial(n)))

    def binomial(self, a: Answer, b: Answer) -> Formula:
        n, k = (part.whole() if isinstance(part, Formula) else None for part in (a, b))
        if n is None or k is None or not 0 <= k <= n <= MAX_FACTORIAL:
            return atom("binomial", key_of(a), key_of(b))
        self.numbers.undone += 1
        return rational(Fraction(math.comb(n, k)))

    def magnitude(self, a: Answer) -> Formula:
        """|a|, where the sign is known; else one thing, the same for -a."""
        value = numeric(a)
        if value is None or len(value.top) > 1 or len(value.below) > 1:
            keys = key_of(a), key_of(self.negative(a))
            return atom("magnitude", min(keys, key=repr))
        self.numbers.undone += 1
        top = min(value.top.values(), default=0)
        below = min(value.below.values())
        if (top < 0) != (below < 0):
            return self.negative(a)
        return number(value)

    def rounded(self, opened: str, a: Answer) -> Formula:
        """⌊a⌋ or ⌈a⌉, of a fraction; else one thing."""
        value = numeric(a)
        fraction = value.fraction() if value else None
        if fraction is None:
            return atom(opened, key_of(a))
        self.numbers.undone += 1
        return rational(Fraction(math.floor(fraction) if opened == "⌊" else math.ceil(fraction)))

    def function(self, name: str, base: Answer | None, a: Answer) -> Formula:
        """A function of a; a logarithm whose base is written is a number where it is whole."""
        if isinstance(base, Formula) and name == "log" and base.letter() == "e":
            name, base = "ln", None
        if base is not None and name == "log":
            b, x = numeric(base), numeric(a)
            power = self.numbers.logarithm(x, b) if x and b else None
            if power is not None:
                self.numbers.undone += 1
                return rational(Fraction(power))
        if name == "exp" and base is None:
            return self.power(atom("letter", "e"), a, MAX_FACTORIAL)
        if base is not None:
            name += f"_{key_of(base)}"
        return atom("function", name, key_of(a))

    def same(self, a: Answer, b: Answer) -> bool:
        """Whether the answers are equal, whatever was left undone."""
        if isinstance(a, Formula) and isinstance(b, Formula):
            alike = a.terms.keys() == b.terms.keys()
            return alike and all(map(self.numbers.same, a.terms.values(), map(b.terms.get, a.terms)))
        if isinstance(a, Formula) or isinstance(b, Formula):
            return False
        if len(a.parts) != len(b.parts):
            return False
        return self.same_parts(a, b)

    def same_parts(self, a: Several, b: Several) -> bool:
        kinds = {a.kind, b.kind}
        if len(kinds) == 2 and kinds != {",", "{}"}:
            return False
        if not kinds.isdisjoint(UNORDERED):
            return self.in_any_order(a, b)
        if all(map(self.same, a.parts, b.parts)):
            return True
        return a.kind == "=" and all(map(self.same, a.parts, reversed(b.parts)))

    def in_any_order(self, a: Several, b: Several) -> bool:
        return all(self.count(a, part) == self.count(b, part) for part in b.parts)

    def count(self, several: Several, part: Answer) -> int:
        return sum(self.same(other, part) for other in several.parts)


def terms_of(a: Answer) -> dict[Monomial, Value]:
    if not isinstance(a, Formula):
        raise Unread  # several values
    return a.terms


def negated(exponent: object) -> object:
    return -exponent if isinstance(exponent, int) else ("minus", exponent)


def leading_minus(value: Value) -> bool:
    return bool(value.top) and min(value.top.items())[1] < 0


def base_of(a: Answer) -> Key:
    """What a power of the formula is a power of: the letter itself, or all of it."""
    terms = terms_of(a)
    monomial, coefficient = next(iter(terms.items()))
    if len(terms) == len(monomial) == 1 and coefficient is UNITY and monomial[0][1] == 1:
        return monomial[0][0]
    return key_of(a)


def together(terms: dict[Monomial, Value]) -> Value:
    """All counts of the terms as those of one number."""
    counts = [count for value in terms.values() for count in value.top.values()]
    return Value({(1, i): count for i, count in enumerate(counts)}, ONE)


def numeric(a: Answer) -> Value | None:
    """The number that a formula without letters is."""
    terms = terms_of(a)
    return terms.get(NUMBER) if len(terms) == 1 else None
