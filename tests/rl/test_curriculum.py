"""Which problems a stage draws."""

from types import SimpleNamespace

import pytest

from nomoat.rl.curriculum import FLOOR, Curriculum
from nomoat.rl.reward import Judged, Score


def test_problems_go_where_there_is_something_to_learn():
    curriculum = Curriculum({"lamp": [4], "sorting": [3, 4]})
    curriculum.success.update({"lamp/4": 1.0, "sorting/3": 0.5, "sorting/4": 0.0})
    places = [exercise.place for exercise in curriculum.draw(7, 400)]
    expected = 400 * FLOOR / (0.25 + 3 * FLOOR)
    assert places.count("sorting/3") > 250
    assert 0 < places.count("lamp/4") < 3 * expected
    first, again, other = ([e.problem.key for e in curriculum.draw(seed, 400)] for seed in (7, 7, 8))
    assert first == again
    assert first != other


def judged(exercise, **score):
    return Judged(SimpleNamespace(exercise=exercise), Score(answer="", **score), 0.0)


def test_success_is_a_running_mean():
    curriculum = Curriculum({"sorting": [3]}, memory=0.8)
    first, second, third = curriculum.draw(1, 3)
    groups = [
        (judged(first, strict=True), judged(first, strict=True)),
        (judged(second), judged(second)),
        (judged(third, undecided=True),),  # says nothing
    ]
    curriculum.learn(groups)
    assert curriculum.success["sorting/3"] == pytest.approx(0.8 * (0.8 * 0.5 + 0.2) + 0.0)


def test_a_share_of_the_problems_stands_behind_earlier_turns():
    tasks = {"lamp": [4], "sorting": [3, 4]}
    alone, behind = Curriculum(tasks).draw(7, 200), Curriculum(tasks, behind=0.4).draw(7, 200)
    assert [e.problem for e in alone] == [e.problem for e in behind]
    assert not any(e.before for e in alone)
    assert 60 < sum(bool(e.before) for e in behind) < 100
