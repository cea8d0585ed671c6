"""The exact parser against an evaluator that never sees text, on hostile text, and on answers of note."""

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.tasks import exact
from nomoat.tasks.formulas import Algebra

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
@settings(max_examples=10_000, deadline=None)
def test_many_expressions_have_their_value(expression):
    assert exact.number(expression[0]) in (expression[1], None)


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**6))
@settings(max_examples=200, deadline=None)
def test_a_fraction_in_every_form_is_itself_and_no_other(p, q):
    value = Fraction(p, q)
    p, q = value.numerator, value.denominator
    if q == 1:
        forms = [str(p), f"{p:,}", f"{p}.0", f"\\boxed{{{p}}}"]
    else:
        sign = "-" if p < 0 else ""
        forms = [
            f"{p}/{q}",
            f"\\frac{{{p}}}{{{q}}}",
            f"{sign}\\dfrac{{{abs(p)}}}{{{q}}}",
            f"\\boxed{{{p}/{q}}}",
            f"${p}/{q}$.",
        ]
    for form in forms:
        assert exact.equal(form, forms[0])
        assert exact.number(form) == value
        assert not exact.equal(form, f"{p + 1}/{q}")
        assert not exact.equal(form, f"{p * 10**20 + q}/{q * 10**20}")  # nearly


@given(st.integers(1, 999), st.integers(1, 10**6), st.integers(1, 999), st.integers(1, 10**6))
@settings(max_examples=200, deadline=None)
def test_roots_are_equal_where_their_squares_and_signs_are(a, n, b, m):
    left, right = f"{a}\\sqrt{{{n}}}", f"{b}\\sqrt{{{m}}}"
    assert same_value(left, right) == (a * a * n == b * b * m)
    assert same_value(f"({left})^2", str(a * a * n))


def same_value(*texts):
    return Algebra().same(*(exact.parse(text).value for text in texts))


SIGNS = "0123456789.,+-*/^()[]{}%$= \\x!eπ√∞−"
PIECES = (
    "\\frac", "\\sqrt", "\\boxed{", "\\text{", "{", "}", "(", ")", "[", "]", "1", "23", "0", ".", ",",
    "^", "-",
    "/", "*", "%", " ", "\\pi", "\\left", "\\,", "and", "=", "x", "$", "e9", "\n", "１", "not",
)  # fmt: skip
ANY = (
    st.text(max_size=200)
    | st.text(SIGNS, max_size=120)
    | st.lists(st.sampled_from(PIECES), max_size=60).map("".join)
)


def total(a, b):
    for lang in ("en", "de"):
        assert isinstance(exact.equal(a, b, lang=lang), bool)
        assert isinstance(exact.equal(a, b, lang=lang, units={"m": 100, "%": 1}), bool)
        for found in (exact.number(a, lang=lang), exact.last_number(a, lang=lang)):
            assert found is None or isinstance(found, Fraction)
    assert exact.boxed(a) is None or isinstance(exact.boxed(a), str)


@given(ANY, ANY)
@settings(max_examples=400, deadline=None)
def test_it_is_total(a, b):
    total(a, b)


@pytest.mark.check
@given(ANY, ANY)
@settings(max_examples=20_000, deadline=None)
def test_it_is_total_over_a_long_run(a, b):
    total(a, b)


@given(ANY.filter(lambda text: exact.plain(text) and not exact.DENIAL.search(text)), ANY)
@settings(max_examples=200, deadline=None)
def test_an_answer_equals_itself_and_equality_of_values_is_symmetric(a, b):
    if a.count("\\boxed") < 2:
        assert exact.equal(a, a) or exact.parse(a) is not None
    x, y = exact.parse(a), exact.parse(b)
    if x and y and exact.equal(a, b) and x.undone == y.undone and "boxed" not in a + b and "=" not in a + b:
        assert exact.equal(b, a)


HOSTILE = (
    "9" * 10**6,
    "{" * 10**5,
    "(" * 10**5,
    "(" * 24 + "1" + ")" * 24,
    "\\boxed{" * 10**5,
    "\\boxed" * 10**5,
    "[" * 399,
    "-" * 399,
    "\\frac{" * 10**5,
    "\\text{" * 600,
    "9^9^9^9",
    "9**64**64",
    "((9^64)^64)^64",
    "10^9999",
    "1e999",
    "1e" + "9" * 300,
    "1/2004!",
    "9" * 399,
    "9" * 380 + "^64",
    "(1/3)^64" * 40,
    "1" + "/9" * 199,
    "1," * 199 + "1",
    "1;" * 199,
    "sqrt(" * 70 + "2" + ")" * 70,
    "\\sqrt{999999999989}" * 20,
    "+".join(f"\\sqrt{{{n}}}" for n in range(2, 40)),
    "^" + " " * 3990,
    "a," * 2000,
    "{,}" * 1300,
    "(\\sqrt2+\\sqrt3+\\sqrt5+\\sqrt7+\\sqrt{11}+\\sqrt{13})^{64}",
    "\\pi^{64}" * 50,
    "\\sqrt[9]{" + "9" * 300 + "}",
    "1" + ",234" * 90,
    "$" * 10**6,
    " " * 10**6,
    "\\" * 10**5,
    "not " * 1000,
    "and " * 1000,
    "\u0660" * 300,
    "\ud800",
    "\x00" * 300,
    "%" * 300 + "1",
    "1" + "%" * 300,
    "(" * 20 + "1" + "^64)" * 20,
    "x=" * 200,
    "=" * 4000,
    "0" * 390 + "1",
    "{" + "1," * 90 + "2}",
    "\\circ" * 700,
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_takes_no_time(text):
    for a, b in ((text, "5"), ("5", text), (text, text), (text[:390], text[:390])):
        start = time.process_time()
        exact.equal(a, b)
        exact.last_number(a)
        exact.boxed(a)
        assert time.process_time() - start < 0.4


@pytest.mark.parametrize(
    ("answer", "expected", "verdict"),
    [
        ("1/2", "0.5", True),
        ("17+25", "42", False),
        ("84/2", "42", False),
        ("2/4", "1/2", False),
        ("1/2004!", "1/2006!", False),
        ("1-1/e", "1+1/e", False),
        ("0.33", "1/3", False),
        ("12,5", "12.5", False),
        ("1e3", "1000", True),
        ("3 apples", "3", False),
        ("not 5", "5", False),
        ("５", "5", False),
        ("٥", "5", False),
        ("5..", "5", False),
        ("5.", "5", True),
        ("x = 5", "5", True),
        ("3, 1, 2", "1, 2, 3", False),
        (r"\{3,1,2\}", r"\{1,2,3\}", True),
        (r"\boxed{5}\boxed{6}", "6", False),
        ("1 2", "12", False),
        ("2^{10}", "1024", False),
        ("1024", "2^{10}", True),
        (r"\sqrt{12}", r"2\sqrt{3}", False),
        (r"2\sqrt3", r"\sqrt{12}", True),
        ("a b c", "c b a", False),
        ("A-B-D", "A-D-B", False),
        (r"1\frac{1}{2}", "1.5", True),
        (r"\frac{1}{2}3", "3/2", False),
        (r"\sqrt{2}\sqrt{3}", r"\sqrt{6}", False),
        (r"\pi\pi^2", r"\pi^3", False),
        ("", "", False),
        ("\u212a", "k", False),
    ],
)
def test_verdicts(answer, expected, verdict):
    assert exact.equal(answer, expected) is verdict


def test_german_numbers_are_read_where_they_are_asked_for():
    assert exact.number("1.234,5", lang="de") == Fraction("1234.5")
    assert exact.number("12,5", lang="de") == exact.number("12.5") == exact.number("12.5", lang="de")
    assert exact.number("12,5") is None
    assert exact.number("1.234", lang="de") == 1234
    assert exact.number("1.234") == Fraction("1.234")


def test_units_are_those_that_the_task_names():
    units = {"cm": 1, "m": 100, "%": 1}
    for answer in ("2 m", "200cm", "200", r"2 \text{ m}", "200 %"):
        assert exact.equal(answer, "200 cm", units=units), answer
    for answer in ("2", "2 km", "200 mm", "2 m m", "m 2", "m"):
        assert not exact.equal(answer, "200 cm", units=units), answer


def test_layouts_of_gsm8k_and_math():
    assert exact.last_number("Natalia sold 48/2 = <<48/2=24>>24.\n#### 1,072") == 1072
    assert exact.last_number("It fell by -$5.50.") == Fraction("-5.5")
    assert exact.last_number("from 3 - 5") == 5
    assert exact.last_number("none") is None
    assert exact.boxed(r"so $x=\boxed{1}$, or $\boxed{\frac{1}{2}}$") == r"\frac{1}{2}"
    assert exact.boxed(r"\boxed{\text{(A)}") is None
    assert exact.boxed("1") is None
