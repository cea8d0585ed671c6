"""Programs are judged by asserts as Python would judge them."""

import ast

import pytest

from nomoat import sandbox
from nomoat.config import UserError
from nomoat.tasks import asserts, demands, programs
from nomoat.tasks.base import Problem

BOUND = {
    "a loop over what a builtin is called": "for input in [1, 2]:\n        assert candidate(input) == input",
    "a helper called as a builtin": "def sorted(x): return x\n    assert sorted(candidate([2])) == [2]",
    "a branch": "if 1 > 2:\n        assert candidate(1) == 7",
    "another branch": "try:\n        candidate(None)\n    except OSError:\n        assert candidate(0) == 7",
    "a raise": "if candidate(1) != 1:\n        raise ValueError",
    "a call that has to fail": "candidate(None)\n    assert False",
    "unittest": "self.assertEqual(candidate(1), 1)",
    "numpy": "np.testing.assert_allclose(candidate(1), 1)",
    "an error that is expected": "with pytest.raises(ValueError):\n        candidate(-1)",
    "another way to fail": "if candidate(1) != 1:\n        return False",
    "what may not run": "with open('x') as file:\n        assert candidate(1) == 7",
    "a loop that may be empty": "for _ in []:\n        assert candidate(1) == 7",
    "a helper": "def helper(g):\n        assert g(1) == 7\n    helper(candidate)",
    "a variable": "x = candidate(1)\n    assert x == 1",
}
TWICE = ("a call that has to fail", "a variable")
NEVER = {
    "behind a return": "    return\n    assert candidate(4) == 7\n",
    "in a function that nothing calls": "def never(candidate):\n    assert candidate(4) == 7\n",
    "the call of check itself": "if __name__ == '__main__':\n    check(candidate)\n",
}


@pytest.mark.parametrize("kind", NEVER)
def test_what_never_runs_is_not_demanded(kind):
    plain = "".join(f"    assert candidate({n}) == {n}\n" for n in range(3))
    facts = asserts.tests(f"def check(candidate):\n{plain}{NEVER[kind]}", "g")
    assert (facts["asserts"], facts["left"]) == (["_0 == 0", "_1 == 1", "_2 == 2"], 0)


@pytest.mark.parametrize("kind", BOUND)
def test_what_does_not_always_hold_is_left_out_and_counted(kind):
    plain = "".join(f"    assert candidate({n}) == {n}\n" for n in range(3))
    facts = asserts.tests(f"def check(candidate):\n{plain}    {BOUND[kind]}\n", "g")
    assert (len(facts["inputs"]), len(facts["asserts"]), facts["left"]) == (3, 3, 1 + (kind in TWICE))


TEST = """
def check(candidate):
    assert candidate(1) == {1: 'a'}
    assert candidate(2) == (1, {2})
    assert 5 == candidate(4)
    assert candidate(0) is True
    assert not candidate(-1)
    assert candidate(5)
    assert candidate(2) != candidate(4), 'two calls'
    assert abs(candidate(6) - 0.1) < 1e-6 and candidate(4) > 4
    assert candidate(3 * 19, flag=[1]) == [3, 19]
    assert tuple(candidate(57, flag=[1])) == (3, 19)
    assert candidate(7) == float('inf')
    assert True
    for i in range(3):
        assert candidate(i) == helper(i)
    assert candidate([i for i in range(3)]) == 3
"""
TABLE = """
def f(x, flag=None):
    if isinstance(x, list): return len(x)
    if flag: return [3, 19]
    return {1: {1: 'a'}, 2: (1, {2}), 4: 5, 0: True, -1: '', 5: 'yes', 6: 0.1 + 1e-9, 7: float('inf')}[x]
"""


@pytest.fixture
def judge():
    try:
        sandbox.backend()
    except UserError as error:
        pytest.skip(str(error))
    facts = asserts.tests(TEST, "f")
    assert (len(facts["asserts"]), facts["left"]) == (12, 1)
    problem = Problem("", "", "", {"entry": "f", "before": "", **facts})
    return lambda code: programs.check(problem, code)


def test_asserts_are_judged_as_python_judges_them(judge):
    assert judge(TABLE)
    assert judge(TABLE.replace("4: 5", "4: 5.0"))  # 5 == 5.0
    for right, wrong in {
        "{1: 'a'}": "{'1': 'a'}",
        "(1, {2})": "[1, {2}]",
        "{2})": "[2])",
        "0: True": "0: 1",
        "-1: ''": "-1: 'no'",
        "'yes'": "None",
        "4: 5": "4: 6",
        "1e-9": "1e-3",
        "return [3, 19]": "return [19, 3]",
        "float('inf')": "float('nan')",
        "return len(x)": "raise ValueError",
    }.items():
        assert not judge(TABLE.replace(right, wrong)), wrong


def test_a_recursive_function_may_be_called_f(judge):
    deep = TABLE.replace("return len(x)", "return 1 + f(x[1:]) if x else 0")
    assert judge(deep)


def test_results_that_claim_to_be_equal_are_not(judge):
    claims = "class E(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
    assert not judge(claims + TABLE.replace("4: 5", "4: E(6)"))
    assert not judge("class E:\n    def __eq__(self, other): return True\ndef f(x, flag=None): return E()")


def test_tests_are_taken_apart_without_being_run():
    facts = asserts.tests(
        "assert candidate(__import__('os').getpid()) == 1\nassert candidate(*args) == 2", "g"
    )
    assert facts == {"inputs": [], "asserts": ["_0 == 1"], "left": 1}  # fewer than MIN_TESTS


@pytest.mark.parametrize(
    "text",
    ["_0 * 10**9", "'a' * 10**9", "_0.__class__", "open('x')", "[x for x in _0]", "lambda: 0", "f'{_0}'"],
)
def test_what_is_demanded_is_no_program(text):
    outputs = ["a"]
    demand = ast.parse(text, mode="eval").body
    try:
        demands.understood(demand)
    except LookupError:
        return
    assert demands.kept([text], outputs) is False
