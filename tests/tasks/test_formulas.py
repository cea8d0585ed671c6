"""Formulas are equal in any order, and nothing is multiplied out, factored or cancelled."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.tasks import exact

TERMS = ("3x", "-2y", "x^2", "5", "\\frac{a}{2}", "\\sqrt{x-1}", "2(x+1)")


def joined(terms):
    return "".join(term if term.startswith("-") else f"+{term}" for term in terms)


@given(st.lists(st.sampled_from(TERMS), min_size=2, max_size=4, unique=True), st.randoms())
@settings(max_examples=60, deadline=None)
def test_sums_are_equal_in_any_order_and_to_no_part(terms, random):
    turned = random.sample(terms, len(terms))
    assert exact.equal(joined(turned), joined(terms))
    assert not exact.equal(joined(terms[1:]), joined(terms))
    assert not exact.equal(joined([*terms[:-1], "7z"]), joined(terms))


@pytest.mark.parametrize("order", [*permutations(("(x+1)", "(x-2)", "(2x+3)"))])
def test_factors_are_equal_in_any_order(order):
    assert exact.equal("3" + "".join(order), "3(x+1)(x-2)(2x+3)")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("(x+1)(x+2)", "x^2+3x+2"),
        ("2(x+1)", "2x+2"),
        ("x(32x^2-4x+20)", "4x(8x^2-x+5)"),
        ("(x-3)(x-3)", "(x-3)^2"),
        ("2x+3x", "5x"),
        ("2x*3", "6x"),
        ("x*x", "x^2"),
        ("\\frac{2x}{4}", "\\frac{x}{2}"),
        ("\\frac{2x+4}{2}", "x+2"),
        ("x+0", "x"),
        ("1*x", "x"),
        ("-(-x)", "x"),
    ],
)
def test_the_question_is_no_answer_to_itself(question, answer):
    assert not exact.equal(question, answer)
    assert exact.equal(question, question)
    assert exact.equal(answer, answer)
