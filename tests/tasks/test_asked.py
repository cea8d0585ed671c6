"""What a question asks for decides which words may stand beside a number, and which may not."""

import pytest

from nomoat.tasks import exact
from nomoat.tasks.asked import asked


@pytest.mark.parametrize(
    ("question", "unit"),
    [
        ("How many hours does it take?", "hour"),
        ("How many more hours does it take?", "hour"),
        ("How long, in minutes, is it?", "minute"),
        ("What is the area, in square feet?", "foot^2"),
        ("How fast is it in km/h?", "km/hour"),
        ("How many days does he work per week?", "day"),
        ("He forgot how many days he worked. How much money did he earn?", ""),
        ("How much did he earn in week 1?", ""),
        ("How many students are in second place?", ""),
        ("How many inches are in feet?", ""),
        ("How many apples are there?", ""),
    ],
)
def test_the_unit_that_is_asked_for(question, unit):
    assert asked(question).unit == unit


@pytest.mark.parametrize(
    ("question", "percent"),
    [("What percent are red?", True), ("What is the percentage?", True), ("Wie viel Prozent sind es?", True),
     ("Write it as a percent.", True), ("What is 20 percent of 50?", False),
     ("What number is 20% of 50?", False), ("It fell by 5 percent. How many dollars is that?", False)],
)  # fmt: skip
def test_whether_a_percentage_is_asked_for(question, percent):
    assert asked(question).percent is percent
    assert exact.equal("25%", "25", question=question) is percent
    assert exact.equal("25", "25%", question=question) is percent
    assert not exact.equal("0.25", "25", question=question)


def test_more_and_less_are_left_out_only_where_the_question_compares():
    how_many_more = "How many apples does Tom have more than Ann?"
    assert exact.equal("4 more", "4", question=how_many_more)
    assert not exact.equal("4 fewer", "4", question=how_many_more)
    for question in ("How many apples has Tom if he has 3 more than Ann?", "How many apples has Tom?", ""):
        assert not exact.equal("4 more", "4", question=question)


def test_a_unit_that_is_not_asked_for_is_said():
    same, rule = exact.compared("4 minutes", "4", question="How many hours?")
    assert (same, rule) == (False, "another unit: minute, and the question asks for hour")
    assert exact.compared("4 eggs", "4", question="How many dozen eggs?")[1].endswith("counts by the dozen")


def test_letters_are_a_product_only_in_a_formula():
    area = "What is the area of a rectangle with sides x and y?"
    for answer in ("yx", "x*y", "y \\cdot x", "y x", "$yx$"):
        assert exact.equal(answer, "xy", question=area)
        assert exact.equal(answer, "x*y")
    assert not exact.equal("XY", "xy", question=area)
    for a, b in (("no", "on"), ("was", "saw"), ("god", "dog"), ("AB", "BA"), ("zyx", "xyz")):
        assert not exact.equal(a, b)
        assert not exact.equal(a, b, question="Sort the letters, or turn the word.")
    assert "no formula" in exact.compared("yx", "xy")[1]
