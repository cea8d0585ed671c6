"""Numbers in words are those numbers, and nothing that only begins like one is."""

import pytest

from nomoat.tasks import exact, spoken

ONES = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_words(n):
    """The words of a number below a billion, made from the other side."""
    for size, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if n >= size:
            rest = in_words(n % size) if n % size else ""
            return f"{in_words(n // size)} {name} {rest}".strip()
    if n < 20:
        return ONES[n - 1]
    return TENS[n // 10 - 2] + (f"-{ONES[n % 10 - 1]}" if n % 10 else "")


def test_words_are_their_number():
    for n in [*range(1, 300), *range(300, 10**9, 76_654_321)]:
        assert spoken.spelled(in_words(n)) == (n, 1), n


@pytest.mark.parametrize(
    "text",
    ["twenty-fifth", "two five", "twenty twelve", "hundred fives", "two and three", "one hundred and"],
)
def test_other_words_are_none(text):
    assert spoken.spelled(text) is None


def test_parts_are_in_lowest_terms():
    assert spoken.spelled("two thirds") == (2, 3)
    assert spoken.spelled("two fourths") is None


def test_words_before_what_is_counted_are_digits():
    for text in ("twenty-five apples", "Twenty five", "twenty-five dollars", "$25"):
        assert exact.equal(text, "25")
    for text in ("minus five degrees", "negative five"):
        assert exact.equal(text, "-5")
    for text in ("one of 25", "twenty-five to one", "twenty five hundred apples", "twenty-five and a half"):
        assert not exact.equal(text, "25")
