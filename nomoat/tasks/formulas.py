"""Formulas with letters, compared by their form: sums and products in any order, numbers by value.

Nothing is multiplied out, factored or cancelled: (x+1)(x+2) is (2+x)(1+x) and not x^2+3x+2, since one of them
may be the question.  A formula without letters is a number of `values`.  Several of them, in brackets or
not, are a `Several`.
"""

from dataclasses import dataclass
from fractions import Fraction

from nomoat.tasks import values
from nomoat.tasks.values import ONE, UNIT, Arithmetic, Unread, Value

Key = tuple  # of nested tuples, texts and fractions: equal where the forms are
Monomial = tuple  # of (atom's key, exponent), in order
NUMBER: Monomial = ()
MAX_TERMS = 60
UNITY = Value(ONE, ONE)
ZERO = Value({}, ONE)
UNORDERED = ("{}", "∪")


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
        atom = next(iter(self.terms))
        alone = len(self.terms) == 1 and len(atom) == 1 and self.terms[atom] is UNITY and atom[0][1] == 1
        if not alone:
            return None
        key = atom[0][0]
        return key[1] if key[0] == "letter" or (key[0] == "function" and len(key[1]) == 1) else None


@dataclass(frozen=True, eq=False)
class Several:
    """`kind`: "," a list, "()" "[)" … a tuple or interval, "{}" a set, "∪" a union, "matrix" of "row"s,
    ":" a ratio, or a relation such as "=" or "≤<"."""

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
    return number(Value({UNIT: value} if value else {}, ONE))


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

    def times(self, a: Answer, b: Answer) -> Formula:
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
        divisor = terms_of(b).get(NUMBER) if len(terms_of(b)) == 1 else None
        if divisor is None:
            monomial, value = self.factor(b)
            inverse = tuple((key, negated(exponent)) for key, exponent in monomial)
            m, x = self.factor(a)
            one = value is UNITY
            return Formula({self.merged(m, inverse): x if one else self.numbers.divided(x, value)})
        return self.shared(terms_of(a), divisor)

    def shared(self, terms: dict[Monomial, Value], divisor: Value) -> Formula:
        """The sum with each term divided; undone where all of them could be."""
        if len(terms) == 1:
            return Formula({m: self.numbers.divided(v, divisor) for m, v in terms.items()})
        undone = self.numbers.undone
        shares = {m: self.numbers.divided(v, divisor) for m, v in terms.items()}
        tops = [count for value in terms.values() for count in value.top.values()]
        together = Value({(1, i): count for i, count in enumerate(tops)}, ONE)
        self.numbers.undone = undone + values.quotient(together, divisor)
        return Formula(shares)

    def power(self, a: Answer, exponent: Answer, limit: int) -> Formula:
        base, n = terms_of(a), exponent.whole() if isinstance(exponent, Formula) else None
        if len(base) == 1 and (value := base.get(NUMBER)) is not None:
            if n is not None and abs(n) <= limit:
                return number(self.numbers.raised(value, n))
            return atom("base", number_key(value), exponent=key_of(exponent) if n is None else n)
        power = key_of(exponent) if n is None else n
        monomial, value = next(iter(base.items()))
        if len(base) == 1 and value is UNITY and len(monomial) == 1 and monomial[0][1] == 1:
            return Formula({((monomial[0][0], power),): UNITY})
        return Formula({((key_of(a), power),): UNITY})

    def root(self, a: Answer, index: int) -> Formula:
        terms = terms_of(a)
        if len(terms) == 1 and NUMBER in terms:
            return number(self.numbers.rooted(terms[NUMBER], index))
        return atom("root", index, key_of(a))

    def same(self, a: Answer, b: Answer) -> bool:
        """Whether the answers are equal, whatever was left undone."""
        if isinstance(a, Formula) or isinstance(b, Formula):
            alike = isinstance(a, Formula) and isinstance(b, Formula) and a.terms.keys() == b.terms.keys()
            return alike and all(self.numbers.same(v, b.terms[m]) for m, v in a.terms.items())
        kinds = {a.kind, b.kind}
        if len(kinds) == 2 and kinds != {",", "{}"}:
            return False
        if len(a.parts) != len(b.parts):
            return False
        if not kinds & set(UNORDERED):
            turned = a.kind == "=" and len(a.parts) == 2
            straight = all(map(self.same, a.parts, b.parts))
            return straight or (turned and all(map(self.same, a.parts, b.parts[::-1])))
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
