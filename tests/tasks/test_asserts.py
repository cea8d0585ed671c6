"""Of a test is demanded what holds in every case; what is left out is counted."""

import pytest

from nomoat.tasks import asserts

BOUND = {
    "a loop over what a builtin is called": "for input in [1, 2]:\n        assert candidate(input) == input",
    "a helper called as a builtin": "def sorted(x): return x\n    assert sorted(candidate([2])) == [2]",
    "a branch": "if 1 > 2:\n        assert candidate(1) == 7",
    "another branch": "try:\n        candidate(None)\n    except OSError:\n        assert candidate(0) == 7",
    "a raise": "if candidate(1) != 1:\n        raise ValueError",
    "a call that has to fail": "candidate(None)\n    assert False",
    "unittest": "self.assertRaises(ValueError, candidate, -1)",
    "another function of its name": "candidate = wrap(candidate)\n    assert candidate(1) == 7",
    "that name elsewhere": "for candidate in [len]:\n        assert candidate('1') == 1",
    "what may have ended": "if candidate(1) == 1:\n        return\n    assert candidate(1) == 7",
    "where a number lies": "assert candidate(1) is 1",
    "what the world says": "assert candidate(open('x')) == 1",
    "a method": "assert candidate(1).strip() == 1",
    "what a raise hides": "raise SystemExit\n    assert candidate(1) == 7",
    "numpy": "np.testing.assert_allclose(candidate(1), 1)",
    "an error that is expected": "with pytest.raises(ValueError):\n        candidate(-1)",
    "another way to fail": "if candidate(1) != 1:\n        return False",
    "what may not run": "with open('x') as file:\n        assert candidate(1) == 7",
    "a loop that may be empty": "for _ in []:\n        assert candidate(1) == 7",
    "a helper": "def helper(g):\n        assert g(1) == 7\n    helper(candidate)",
    "a variable": "x = candidate(1)\n    assert x == 1",
}
TWICE = ("a call that has to fail", "a variable", "another function of its name", "what may have ended")
NEVER = {
    "behind an exit": "    sys.exit(0)\n    assert candidate(4) == 7\n",
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


def test_a_test_may_skip_what_is_decorated():
    plain = "".join(f"    assert g({n}) == {n}\n" for n in range(3))
    for head in ("@pytest.mark.skip\ndef test_a():\n", "async def test_a():\n"):
        facts = asserts.tests(f"def test_b():\n{plain}{head}    assert g(1) == 7\n", "g")
        assert (facts["asserts"], facts["left"]) == (["_0 == 0", "_1 == 1", "_2 == 2"], 1)


ALIKE = {
    "a main part": "if __name__ == '__main__':\n    {}\n    {}\n    {}\n",
    "another name": "candidate = g\n{}\n{}\n{}\n",
    "imported": "from solution import g\n{}\n{}\n{}\n",
    "imported as": "from solution import g as candidate\n{}\n{}\n{}\n",
    "a parameter": "def check(candidate):\n    {}\n    {}\n    {}\ncheck(g)\n",
    "tests": "def test_a():\n    {}\ndef test_b():\n    {}\n    {}\n",
    "methods": "class T(TestCase):\n    def test_a(self):\n        {}\n        {}\n        {}\n",
}


@pytest.mark.parametrize("kind", ALIKE)
def test_the_function_is_known_by_its_names(kind):
    name = "candidate" if "candidate" in ALIKE[kind] else "g"
    facts = asserts.tests(ALIKE[kind].format(*(f"assert {name}({n}) == {n}" for n in range(3))), "g")
    assert (facts["asserts"], facts["left"]) == (["_0 == 0", "_1 == 1", "_2 == 2"], 0)


def test_methods_of_a_test_case_are_asserts():
    calls = ("assertEqual(g(1), 2, 'so')", "assertTrue(g(2))", "assertIsNone(g(3))", "assertIn(4, g(4))")
    body = "".join(f"        self.{call}\n" for call in calls)
    facts = asserts.tests(f"class T(TestCase):\n    def test_a(self):\n{body}", "g")
    assert facts["asserts"] == ["_0 == 2", "_1", "_2 is None", "4 in _3"]


def test_tests_are_taken_apart_without_being_run():
    facts = asserts.tests(
        "assert candidate(__import__('os').getpid()) == 1\nassert candidate(*args) == 2", "g"
    )
    assert facts == {"inputs": [], "asserts": [], "left": 2}  # fewer than MIN_TESTS
