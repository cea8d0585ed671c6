"""Answers are read strictly or leniently, whatever the reply."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.tasks import answers

PARTS = ("<think>", "</think>", "a", "=", ":", "\n", " ", "<|eos|>", "Answer")


@given(st.text(max_size=300) | st.lists(st.sampled_from(PARTS)).map("".join))
@settings(max_examples=300, deadline=None)
def test_answers_are_total_and_strict_is_clean(reply):
    assert isinstance(answers.lenient_answer(reply), str)
    strict = answers.strict_answer(reply)
    if strict is None:
        return
    assert strict == strict.strip() != ""
    assert len(strict) <= 200
    assert len(strict.splitlines()) == 1
    assert not answers.SPECIAL.search(strict)


@pytest.mark.parametrize(
    ("reply", "strict", "lenient"),
    [
        ("<think>7+8+0=15:15</think>15", "15", "15"),
        ("7+8+0=15:15</think> 15 <|eos|>", "15", "15"),
        ("15", "15", "15"),
        ("<think></think>15<|eos|>", "15", "15"),
        ("<think>7+8", None, "7+8"),
        ("<think>a</think><think>b</think>15", None, "15"),
        ("x<think>a</think>15", None, "15"),
        ("<think>a</think>15</think>16", None, "16"),
        ("<think>a</think>7+8=15", "7+8=15", "15"),
        ("<think>a</think>The answer is: 15", "The answer is: 15", "15"),
        ("<think>a</think>Die Antwort ist 15", "Die Antwort ist 15", "15"),
        ("<think>a</think>well\n\n15\n", None, "15"),
        ("<think>a</think>15<|user|>", None, "15"),
        ("<think>a</think>" + "9" * 201, None, "9" * 201),
        ("<think>a</think>", None, "a"),
        ("", None, ""),
        ("<think>a</think>\\begin{pmatrix}\n1 \\\\\n2\n\\end{pmatrix}",)
        + ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}",) * 2,
        ("<think>a</think>\\[\n5\n\\]", "\\[ 5 \\]", "\\[ 5 \\]"),
        ("<think>a</think>so $x=\\boxed{(1, 2)}$.", "so $x=\\boxed{(1, 2)}$.", "(1, 2)"),
        ("<think>a</think>it is not \\boxed{5}", "it is not \\boxed{5}", "it is not \\boxed{5}"),
        ("=:\n", "=:", ""),
    ],
)
def test_strict_and_lenient(reply, strict, lenient):
    assert answers.strict_answer(reply) == strict
    assert answers.lenient_answer(reply) == lenient
