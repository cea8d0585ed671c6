"""Programs are read out of any fence, and judged by asserts as Python would judge them."""

import ast

import pytest

from nomoat import sandbox
from nomoat.config import UserError
from nomoat.tasks import programs
from nomoat.tasks.base import Problem

SOLUTION = "def f(x):\n    return x + 1\n"


@pytest.mark.parametrize(
    "answer",
    [
        SOLUTION,
        f"```\n{SOLUTION}```",
        f"```py\n{SOLUTION}```",
        f"```Python\n{SOLUTION}```",
        f"```python3\n{SOLUTION}```",
        f"``` python \n{SOLUTION}```\nIt adds one.",
        f"~~~python\n{SOLUTION}~~~",
        f"````python\n{SOLUTION}````",
        f"```python\n{SOLUTION}",
        f"Here:\n\n```python title=a.py\n{SOLUTION}```",
        f"```python\n{SOLUTION}```".replace("\n", "\r\n"),
        f"```python\n{SOLUTION}```".replace("\n", "\r"),
        f"```python\n{SOLUTION}`````\nIt adds one.",
        f"Use it so:\n```python\nprint(f(1))\n```\nwith\n```python\n{SOLUTION}```",
        f"```python\n{SOLUTION}```\nFor example:\n```python\nprint(f(1))\n```",
        f"```python\ndef f(x): return 0\n```\nBetter:\n```python\n{SOLUTION}```",
        f"1. Write\n\n  ```python\n  {SOLUTION.replace(chr(10), chr(10) + '  ')}\n  ```",
    ],
)
def test_the_solution_is_found(answer):
    assert programs.code_in(answer, "f").strip() == SOLUTION.strip()


def test_a_fence_in_a_docstring_is_part_of_the_program():
    code = 'def f(x):\n    """Adds.\n\n    ```\n    f(1) == 2\n    ```\n    """\n    return x + 1\n'
    assert programs.code_in(f"```python\n{code}```\nSo it is.", "f") == code


BOUND = {
    "a loop over what a builtin is called": "for input in [1, 2]:\n        assert candidate(input) == input",
    "a helper called as a builtin": "def sorted(x): return x\n    assert sorted(candidate([2])) == [2]",
    "a branch": "if 1 > 2:\n        assert candidate(1) == 7",
    "another branch": "try:\n        candidate(None)\n    except OSError:\n        assert candidate(0) == 7",
    "a raise": "if candidate(1) != 1:\n        raise ValueError",
    "a call that has to fail": "candidate(None)\n    assert False",
}


@pytest.mark.parametrize("kind", BOUND)
def test_what_does_not_always_hold_is_left_out_and_counted(kind):
    plain = "".join(f"    assert candidate({n}) == {n}\n" for n in range(3))
    facts = programs.tests(f"def check(candidate):\n{plain}    {BOUND[kind]}\n", "g")
    assert (len(facts["inputs"]), len(facts["asserts"]), facts["left"]) == (3, 3, 1)


def test_a_body_keeps_its_blanks():
    assert programs.code_in("```python\n    return x + 1\n```", "f") == "    return x + 1\n"


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
    facts = programs.tests(TEST, "f")
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
    facts = programs.tests(
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
        programs.understood(demand)
    except LookupError:
        return
    assert programs.kept([text], outputs) is False
