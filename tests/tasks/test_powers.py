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
        ("３", 3),
        ("5 m2", 5),
        ("\\frac{-1}{2}", Fraction(-1, 2)),
        ("2 hundred thousand", 200_000),
        ("$5 million each", 5_000_000),
        ("2 Milliarden", 2 * 10**9),
        ("Final answer — 3", 3),
        ("Step 1: 4", 4),
        ("10 - 3 = 7", 7),
    ],
)
def test_the_last_number_is_all_of_it(text, value):
    assert last.last_number(text) == value


NEGATIVE = ("minus 3", "- 3", "−3", "–3", "‑3", "x = − 3", "it is - 3", "it is negative 3", "minus 3 °C")
SIGNED = ("(-3)", "**-3**", "#### -3", "-$3", "- $3", "minus $3", "$-3", "-€3", "Answer: - 3")


@pytest.mark.parametrize("text", [*NEGATIVE, *SIGNED])
def test_a_minus_before_the_last_number_is_never_lost(text):
    assert last.last_number(text) == -3


CHANGED = {
    "words": ("2 dozen", "2 Dutzend Eier", "3 quarters", "2 halves", "5 tenths", "5 Zehntel", "2 pairs"),
    "parts": ("2 and a half", "2 and 1/2", "2 und ein halbes", "3 million 200 thousand", "3 thousand five"),
    "letters": ("5k", "$2k", "2M", "3x", "2 bn of 3i"),
    "ranges": ("3-5", "3–5", "3:4", "at 3:30", "2024-11-28", "11/28/2024", "28.11.2024", "555-1234"),
    "two units": ("5 ft 3 in", "3 dollars and 50 cents", "1 h 30 min"),
    "signs": ("±5", "+/-5", "--3", "-(-3)", "minus -3", "Answer - 3", "0.3 repeating", "0.33...", "5‰"),
}


@pytest.mark.parametrize("text", [text for texts in CHANGED.values() for text in texts])
def test_what_makes_another_number_of_the_last_leaves_none_and_says_so(text):
    value, why = last.last_of(text)
    assert value is None
    assert "can't be read" in why


def test_words_that_the_question_counts_change_nothing():
    assert last.says_last("2 dozen eggs", "2", question="How many dozen eggs are there?")
    assert last.says_last("2 pairs", "2", question="How many pairs of shoes are there?")
    assert not last.says_last("2 dozen eggs", "2", question="How many eggs are there?")
