"""What an assert demands is decided here, and is no program."""

import ast

import pytest

from nomoat.tasks import demands


@pytest.mark.parametrize(
    "text",
    [
        "_0 * 10**9", "'a' * 10**9", "_0.__class__", "open('x')", "[x for x in _0]", "lambda: 0", "f'{_0}'",
        "_0 is 'a'",
    ],  # fmt: skip
)
def test_what_is_demanded_is_no_program(text):
    outputs = ["a"]
    demand = ast.parse(text, mode="eval").body
    try:
        demands.understood(demand)
    except LookupError:
        return
    assert demands.kept([text], outputs) is False


@pytest.mark.parametrize(
    ("text", "output", "right"),
    [
        ("_0 == 1", True, True),
        ("_0 is True", 1, False),
        ("True is (_0 == 1)", 1, True),
        ("None is not _0", None, False),
        ("int is type(_0)", 7, True),
        ("_0 == [1, 2]", ["tuple", 1, 2], False),
        ("_0 == {2, 1}", ["set", 1, 2], True),
        ("_0 == {1, 2}", ["dict_keys", 2, 1], True),
        ("list(_0) == [2, 1]", ["dict_keys", 2, 1], True),
        ("_0 == [2, 1]", ["dict_keys", 2, 1], False),
        ("_0 == {(1, 2)}", ["dict_items", ["tuple", 1, 2]], True),
        ("_0 == {'b': 1, 'a': 2}", ["dict", ["a", 2], ["b", 1]], True),
        ("_0 == float('nan')", ["float", "nan"], False),
        ("_0 == 10 ** 20", 10**20, True),
        ("_0 == 10 ** 99", 10**99, True),
        ("_0 == 10 ** 1025", 10**1025, False),  # too large
        ("_0[:2] == 'ab'", "abc", True),
        ("type(_0) is int", 7, True),
        ("isinstance(_0, (int, float))", True, True),
        ("math.isclose(_0, 0.3)", 0.1 + 0.2, True),
        ("_0 == 0.3", 0.1 + 0.2, False),
    ],
)
def test_results_compare_as_in_python(text, output, right):
    demands.understood(ast.parse(text, mode="eval").body)
    assert demands.kept([text], [output]) is right
