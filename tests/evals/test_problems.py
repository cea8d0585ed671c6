"""What a model's answers are held against."""

from types import SimpleNamespace

from nomoat.evals.problems import constants
from nomoat.rl.rollout import Exercise
from nomoat.tasks import find
from nomoat.tasks.base import Problem, same


def asked(answers, level=1, check=lambda problem, answer: same(answer, problem.witness)):
    task = SimpleNamespace(check=check)
    return [Exercise("f", level, task, Problem("?", str(i), right)) for i, right in enumerate(answers)]


def test_the_constant_answer_is_the_one_that_is_right_most_often():
    (found,) = constants(asked(["no", "yes", "no", "no"]))
    assert (found["answer"], found["value"], found["n"]) == ("no", 0.75, 4)
    assert found["low"] < 0.75 < found["high"]


def test_it_is_judged_by_the_task_and_told_of_each_level():
    broad = asked(
        ["1", "2", "2", "3"], check=lambda problem, answer: answer == "1" or same(answer, problem.witness)
    )
    two = [*broad, *asked(["8", "9"], level=2)]
    first, second = constants(two)
    assert (first["answer"], first["value"]) == ("1", 1.0)  # rarer, and accepted everywhere
    assert (second["level"], second["value"]) == (2, 0.5)


def test_programs_are_not_tried_as_constants():
    program = Problem("?", "k", "def f(x): return x", {"outputs": [1]})
    assert list(constants([Exercise("f", 1, find.find("sorting"), program)])) == []
