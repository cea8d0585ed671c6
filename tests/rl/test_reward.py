"""What an answer is worth: weights, the other language, the shadow grader, the canary."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from nomoat.config import UserError
from nomoat.rl import reward
from nomoat.rl.rollout import Exercise
from nomoat.tasks import base, find
from nomoat.tasks.verdicts import Verdicts

ADD = find.find("addition")


def problem(task=ADD, level=2, lang="en", seed=3):
    return next(base.problems(task, level, split="train", seed=seed, lang=lang))


def grade(text, p, task=ADD, ended=True):
    return reward.grade(Exercise("family", 2, task, p), text, ended, Verdicts())


@pytest.mark.parametrize("name", [*find.families(), str(Path(__file__).parents[2] / "examples/functions.py")])
@pytest.mark.parametrize("lang", ["en", "de"])
def test_worked_solutions_of_every_family_keep_to_their_language(name, lang):
    task = find.find(name)
    for p in itertools.islice(base.problems(task, task.levels[0], split="train", seed=1, lang=lang), 20):
        text = f"<think>{task.work(p)}</think>{p.witness}"
        judge = SimpleNamespace(check=lambda p, a: True, form=getattr(task, "form", "line"))
        assert grade(text, p, judge).language > 0.99, text


def test_the_other_language_costs_its_share_of_the_words():
    assert reward.consistency("<think>this is true</think>yes", "de") == 0
    assert reward.consistency("<think>das ist wahr</think>ja", "de") == 1
    assert reward.consistency("<think>das is wahr</think>42", "de") == pytest.approx(2 / 3)
    assert reward.consistency("1+1=2", "de") == 1


def test_the_reward_is_the_weighted_sum():
    p = problem()
    good = grade(f"<think>x</think>{p.witness}", p)
    bare = grade(p.witness, p)
    wrong = grade("<think>x</think>-1", p)
    r1 = reward.Weights(accuracy=1, format=1)
    assert [s.reward(r1) for s in (good, bare, wrong)] == [2, 1, 1]
    assert good.reward(reward.Weights(accuracy=0, random=1), coin=1.0) == 1
    assert {reward.coin(5, g, i) for g in range(4) for i in range(4)} == {0.0, 1.0}


@pytest.mark.parametrize(("check", "word"), [(lambda p, a: True, "accepts"), (lambda p, a: False, "rejects")])
def test_the_canary_stops_a_checker_that_flips(check, word):
    task = SimpleNamespace(check=check, near_misses=ADD.near_misses, __name__="mine")
    with pytest.raises(UserError, match=word):
        reward.canary(Exercise("mine", 2, task, problem()))
    reward.canary(Exercise("addition", 2, ADD, problem()))


def test_the_shadow_grader_doubts_an_answer_that_fits_every_problem():
    p = problem()
    honest = Exercise("addition", 2, ADD, p)
    assert not reward.doubts(honest, p.witness, 1)
    lax = SimpleNamespace(check=lambda p, a: a == "any", make=ADD.make, levels=ADD.levels, __name__="lax")
    assert reward.doubts(Exercise("lax", 2, lax, replace(p, key="x")), "any", 1)


def test_right_in_the_right_form_is_strict_right_in_any_form_is_lenient():
    p = problem(seed=5)
    cases = {
        f"<think>1+1</think>{p.witness}": (True, True),
        f"<think>1+1</think>Answer: {p.witness}": (False, True),
        "<think>1+1</think>999": (False, False),
        p.witness: (True, True),
        "": (False, False),
    }
    for text, expected in cases.items():
        score = grade(text, p)
        assert (score.strict, score.lenient) == expected, text
    assert not grade(f"<think>1+1</think>{p.witness}", p, ended=False).strict
