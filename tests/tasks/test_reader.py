"""The grammar against an evaluator that never sees text."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.tasks import exact

CDOT, TIMES = "\\cdot", "\\times "


@st.composite
def expressions(draw, depth=4):
    """(text, value): an expression and what it is worth, computed beside the text."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(numerals())
    a, x = draw(expressions(depth=depth - 1))
    kind = draw(st.sampled_from((sums, products, quotients, powers, roots)))
    return draw(kind(a, x, depth - 1))


@st.composite
def sums(draw, a, x, depth):
    b, y = draw(expressions(depth=depth))
    return draw(st.sampled_from([(f"(({a})-({b}))", x - y), (f"(({a})+({b}))", x + y)]))


@st.composite
def products(draw, a, x, depth):
    b, y = draw(expressions(depth=depth))
    sign = draw(st.sampled_from(("*", CDOT, "", TIMES, "×")))
    return f"(({a}){sign}({b}))", x * y


@st.composite
def quotients(draw, a, x, depth):
    b, y = draw(expressions(depth=depth).filter(lambda drawn: drawn[1]))
    forms = (f"(({a})/({b}))", f"\\frac{{{a}}}{{{b}}}", f"(({a}) ÷ ({b}))")
    return draw(st.sampled_from(forms)), x / y


@st.composite
def powers(draw, a, x, depth):
    if not x or abs(x.numerator) >= 1000 or x.denominator >= 1000:
        return a, x
    n = draw(st.integers(-3, 3))
    power = draw(st.sampled_from((f"^{n}", f"**({n})", f"^{{{n}}}")))
    return f"(({a}){power})", x**n


def roots(a, x, depth):
    root = Fraction(x.numerator % 1000, x.denominator % 1000 or 1)
    return st.just((f"\\sqrt{{{root.numerator**2}/{root.denominator**2}}}", root))


@st.composite
def numerals(draw):
    n = draw(st.integers(0, 999_999))
    d = draw(st.integers(2, 99))
    small = d % 9
    percent = draw(st.sampled_from(("%", "\\%")))
    forms = [
        (str(n), Fraction(n)),
        (f"{n:,}".replace(",", "{,}"), Fraction(n)),
        (f"{n}.{d:02}", Fraction(n * 100 + d, 100)),
        (f"{n}{percent}", Fraction(n, 100)),
        (f"({n}/{d})", Fraction(n, d)),
        (f"({n} 1/{d})", n + Fraction(1, d)),
        (f"{n}e-{small}", Fraction(n, 10**small)),
        (f"\\dfrac{{{n}}}{{{d}}}", Fraction(n, d)),
    ]
    return draw(st.sampled_from(forms))


@given(expressions())
@settings(max_examples=300, deadline=None)
def test_expressions_have_their_value(expression):
    text, value = expression
    found = exact.number(text)
    assert found == value or (found is None and (len(text) > exact.MAX_TEXT or text.count("(") > 8))


@pytest.mark.check
@given(expressions(depth=5))
@settings(max_examples=4_000, deadline=None)
def test_many_expressions_have_their_value(expression):
    assert exact.number(expression[0]) in (expression[1], None)
