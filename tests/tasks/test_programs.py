"""Programs are judged by asserts as Python would judge them."""

import pytest

from nomoat import sandbox
from nomoat.config import UserError
from nomoat.tasks import asserts, programs
from nomoat.tasks.base import Problem

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


SOLUTION = "def f(x):\n    return x + 1\n"
RIGHT = {
    "a demonstration that asks": f"{SOLUTION}n = int(input())\nprint(f(n))\n",
    "a demonstration that is wrong": f"{SOLUTION}assert f(1) == 7\n",
    "one of the command line": f"{SOLUTION}import sys\nprint(f(int(sys.argv[1])))\n",
    "prints": f"print('PASSED')\n{SOLUTION}",
    "types in words": "from __future__ import annotations\n"
    "import typing\nclass A:\n    x: B = 1\nclass B: pass\n"
    "typing.get_type_hints(A)\ndef f(x: A) -> int:\n    return x + A.x\n",
    "a margin": "```\n    def f(x):\n        return x + 1\n```",
    "claims to be equal": "class I(int):\n    __eq__ = lambda a, b: True\n    __hash__ = int.__hash__\n"
    "def f(x): return I(x + 1)",
    "names like the caller's": f"_b = _m = _names = said = args = None\n{SOLUTION}",
}
EARLY = {
    "before": f"import sys\nsys.exit(0)\n{SOLUTION}",
    "behind": f"{SOLUTION}import sys\nsys.exit(0)\n",
    "quit": f"{SOLUTION}quit()\n",
    "at once": f"{SOLUTION}import os\nos._exit(0)\n",
    "in the function": "import os\ndef f(x): os._exit(0)\n",
    "by an error": "def f(x): raise AssertionError\n",
    "in no time": "def f(x):\n    while True: yield x\n",
    "with answers of its own": "import os\nfor fd in range(3, 20):\n    try: os.write(fd, b'[\"ok\",2]\\n')\n"
    f"    except OSError: pass\n{SOLUTION}",
}


def both(code):
    """Verdicts by asserts, and by inputs and outputs."""
    entry = {"entry": "f", "before": "def f(x):\n"}
    demanded = asserts.tests("".join(f"assert f({n}) == {n + 1}\n" for n in (1, 2, 5)), "f")
    facts = ({**entry, **demanded}, {"inputs": [1, 2, 5], "outputs": [2, 3, 6]})
    return [programs.check(Problem("", "", "", one), code) for one in facts]


@pytest.mark.parametrize("kind", RIGHT)
@pytest.mark.usefixtures("judge")
def test_a_program_is_judged_by_its_function(kind):
    assert both(RIGHT[kind]) == [True, True]


@pytest.mark.parametrize("kind", EARLY)
@pytest.mark.usefixtures("judge")
def test_a_program_that_ends_early_is_never_right(kind):
    assert both(EARLY[kind]) == [False, False]


@pytest.mark.parametrize("before", ["def f(x):\n", 'def f(x):\n    """Adds."""\n'])
def test_a_body_continues_its_beginning_with_or_without_its_margin(before):
    for body in ("    y = x\n    return y + 1\n", "y = x\n    return y + 1\n", "y = x\nreturn y + 1\n"):
        names = {}
        exec(before + programs.at_depth(body), names)
        assert names["f"](1) == 2


@pytest.mark.usefixtures("judge")
def test_results_of_other_kinds_are_judged_as_python_judges_them():
    test = """
assert list(f(0)) == [1, 2]
assert f(1) == 0.5
assert f(2) == 2
assert f(3)
assert f(0) != [1, 2]
"""
    facts = {"entry": "f", "before": "", **asserts.tests(test, "f")}
    problem = Problem("", "", "", facts)
    code = """
from fractions import Fraction
class A: pass
def f(x): return [iter([1, 2]), Fraction(1, 2), 2, A()][x]
"""
    assert programs.check(problem, code)
    assert not programs.check(problem, code.replace("iter([1, 2])", "iter([2, 1])"))
    assert not programs.check(problem, code.replace("pass", "__len__ = lambda self: 0"))


@pytest.mark.parametrize(
    "outputs", [[[1, 3], [], ["x"]], [{"a": [1]}, None, "list"], [["list", 1], [1.5], [[]]]]
)
def test_a_function_is_judged_by_its_outputs_whatever_they_hold(outputs):
    facts = {"inputs": [0, 1, 2], "outputs": outputs}
    problem = Problem("p", "p", "", facts)
    right = f"def f(x):\n    return {outputs!r}[x]"
    assert programs.check(problem, right)
    assert not programs.check(problem, right.replace("[x]", "[0]"))
