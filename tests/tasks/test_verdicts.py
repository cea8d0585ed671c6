"""Decisions: asked once for equal answers, again where the machine failed, ahead where an answer has to be
run."""

import threading
from types import SimpleNamespace

from nomoat.tasks import base, find
from nomoat.tasks.verdicts import Verdicts

ADD = find.find("addition")
PROBLEM = next(base.problems(ADD, 2, split="train", seed=3, lang="en"))
REPLY = "<think>x</think>7"


def test_equal_answers_are_judged_once():
    asked = []
    task = SimpleNamespace(check=lambda p, a: asked.append(a) or False)
    verdicts = Verdicts()
    for _ in range(3):
        verdicts.verdict(task, PROBLEM, REPLY, True)
    assert asked == ["7"]


def test_a_judge_that_fails_is_asked_again_and_then_the_sample_is_left_out():
    calls = []

    def check(p, answer):
        calls.append(answer)
        if len(calls) <= fails:
            raise base.Undecided("no sandbox")
        return True

    for fails, undecided in ((1, False), (2, True)):  # noqa: B007  (check reads it)
        calls.clear()
        verdict = Verdicts().verdict(SimpleNamespace(check=check), PROBLEM, REPLY, True)
        assert verdict.undecided is undecided
        assert verdict.strict is not undecided
        assert verdict.answer == "7"


def test_what_was_begun_is_judged_in_another_thread():
    """The judge is asked in another thread, before the verdict is, and not again."""
    asked = []
    task = SimpleNamespace(check=lambda p, a: asked.append(threading.current_thread()) or True, __name__="t")
    with Verdicts() as verdicts:
        verdicts.begin(task, PROBLEM, PROBLEM.witness)
        verdicts.begin(task, PROBLEM, PROBLEM.witness)
        verdict = verdicts.verdict(task, PROBLEM, PROBLEM.witness, True)
    assert verdict.strict
    assert len(asked) == 1
    assert asked[0] is not threading.current_thread()
