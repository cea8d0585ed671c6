"""The last number of a sentence, beside exponents, indices, roots and thousands."""

from fractions import Fraction

import pytest

from nomoat.tasks import last


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(3,100)", 100),
        ("(0,100)", 100),
        ("about 3,100 people", 3100),
        ("25%", Fraction(1, 4)),
        ("so 3/4", Fraction(3, 4)),
        ("it is 1 1/2.", Fraction(3, 2)),
        (r"\frac{3}{4} cups", Fraction(3, 4)),
        ("2½", Fraction(5, 2)),
        ("84/2", 2),
        ("x = −7", -7),
        ("5-7", None),
        (r"3 \times 10^{-2} m", Fraction(3, 100)),
        ("10^2", 100),
        ("10⁻³", Fraction(1, 1000)),
        ("x = -10^{-3}", Fraction(-1, 1000)),
        ("x = 3²", None),
        ("2^{10}", None),
        ("2³ + 1 = 9", 9),
        ("5 m²", 5),
        ("9.81 m s⁻²", Fraction("9.81")),
        ("x₁ = 3, x²", 3),
        ("H₂O", None),
        ("1011_2", None),
        ("x = 2√3", None),
        ("sqrt(2)", None),
        ("2π", None),
        ("√16 = 4", 4),
        ("²⁄₃", Fraction(2, 3)),
        ("5¹⁄₂ cups", Fraction(11, 2)),
        ("about 12 345", 12345),
        ("1 234 567.5 dollars", Fraction("1234567.5")),
        ("12'345", 12345),
        ("in 2024 345 people", 345),
        ("12 345 and 7", 7),
        ("100 200 300", 300),
        ("77 5 120", 120),
        ("1 2345", 2345),
        ("**42**.", 42),
        ("it is **42** now, of 2**3", None),
        ("so x is **42**", 42),
        ("**x = 12 345** in all", 12345),
        ("0.(3)", Fraction(1, 3)),
    ],
)
def test_the_last_number_is_all_of_it(text, value):
    assert last.last_number(text) == value
