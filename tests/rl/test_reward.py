"""What an answer is worth: weights, the other language, the shadow grader, the canary, a judge that fails."""

import itertools
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nomoat.config import UserError
from nomoat.rl import reward
from nomoat.rl.rollout import Rollout
from nomoat.tasks import base, find
from nomoat.tokenizer import bpe, layout

ADD = find.find("addition")


def problem(task=ADD, level=2, lang="en", seed=3):
    return next(base.problems(task, level, split="train", seed=seed, lang=lang))


@pytest.mark.parametrize("name", [*find.families(), str(Path(__file__).parents[2] / "examples/functions.py")])
@pytest.mark.parametrize("lang", ["en", "de"])
def test_worked_solutions_of_every_family_keep_to_their_language(name, lang):
    task = find.find(name)
    for p in itertools.islice(base.problems(task, task.levels[0], split="train", seed=1, lang=lang), 20):
        text = f"<think>{task.work(p)}</think>{p.witness}"
        judge = SimpleNamespace(check=lambda p, a: True, form=getattr(task, "form", "line"))
        assert reward.grade(text, True, judge, p).language > 0.99, text


def test_the_other_language_costs_its_share_of_the_words():
    assert reward.consistency("<think>this is true</think>yes", "de") == 0
    assert reward.consistency("<think>das ist wahr</think>ja", "de") == 1
    assert reward.consistency("<think>das is wahr</think>42", "de") == pytest.approx(2 / 3)
    assert reward.consistency("1+1=2", "de") == 1


def test_the_reward_is_the_weighted_sum():
    p = problem()
    good = reward.grade(f"<think>x</think>{p.witness}", True, ADD, p)
    bare = reward.grade(p.witness, True, ADD, p)
    wrong = reward.grade("<think>x</think>-1", True, ADD, p)
    r1 = reward.Weights(accuracy=1, format=1)
    assert [s.reward(r1) for s in (good, bare, wrong)] == [2, 1, 1]
    assert good.reward(reward.Weights(accuracy=0, random=1), coin=1.0) == 1
    assert {reward.coin(5, g, i) for g in range(4) for i in range(4)} == {0.0, 1.0}


def test_equal_answers_are_judged_once():
    asked = []
    task = SimpleNamespace(check=lambda p, a: asked.append(a) or False)
    known = {}
    for _ in range(3):
        reward.grade("<think>x</think>7", True, task, problem(), known)
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
        score = reward.grade("<think>x</think>7", True, SimpleNamespace(check=check), problem())
        assert score.undecided is undecided
        assert score.strict is not undecided


@pytest.mark.parametrize(("check", "word"), [(lambda p, a: True, "accepts"), (lambda p, a: False, "rejects")])
def test_the_canary_stops_a_checker_that_flips(check, word):
    task = SimpleNamespace(check=check, near_misses=ADD.near_misses, __name__="mine")
    with pytest.raises(UserError, match=word):
        reward.canary(task, problem())
    reward.canary(ADD, problem())


def test_the_shadow_grader_doubts_an_answer_that_fits_every_problem():
    p = problem()
    honest = SimpleNamespace(task=ADD, level=2, problem=p)
    assert not reward.doubts(honest, p.witness, seed=1)
    lax = SimpleNamespace(check=lambda p, a: a == "any", make=ADD.make, levels=ADD.levels, __name__="lax")
    assert reward.doubts(SimpleNamespace(task=lax, level=2, problem=replace(p, key="x")), "any", seed=1)


def test_answers_that_are_run_are_judged_while_others_are_sampled(tokenizer_of_sums):
    """The judge is asked in another thread, before the scores are, and not again."""
    tokenizer, rollout = tokenizer_of_sums
    asked = []
    task = SimpleNamespace(check=lambda p, a: asked.append(threading.current_thread()) or True, __name__="t")
    runs = replace(rollout, task=task, problem=replace(rollout.problem, facts={"outputs": [1]}))
    with reward.Ahead(tokenizer) as ahead:
        ahead.hear(runs)
        ahead.hear(runs)
        ahead.hear(replace(rollout, task=task))  # decided by reading: waits for its turn
        ((mark,),) = reward.scores([[runs]], tokenizer, ahead.known)
    assert mark.strict
    assert len(asked) == 1
    assert asked[0] is not threading.current_thread()


@pytest.fixture(scope="module")
def tokenizer_of_sums():
    p = problem()
    stream = base.problems(ADD, 2, split="train", seed=0)
    tokenizer = bpe.train([q.prompt + q.witness for q in itertools.islice(stream, 50)], 280)
    prompt = layout.render(tokenizer, [layout.Message("user", p.prompt)], generate=True).ids
    ids = torch.tensor([*prompt, *tokenizer.encode(p.witness), layout.NOMOAT.eos_id])
    return tokenizer, Rollout(ADD, 2, p, ids, torch.arange(len(ids)) >= len(prompt), torch.zeros(len(ids)), "end")
