"""Capitals that mean something, words that a question counts, solutions in words."""

import json

import pytest

from nomoat.config import TaskError
from nomoat.tasks import jsonl


def test_capitals_that_mean_something_make_another_question(tmp_path):
    rows = [
        {"question": "What is R?", "answer": "R"},
        {"question": "what is r?", "answer": "r"},
        {"question": "What is  R?", "answer": "R"},
        {"question": "WHAT IS R?", "answer": "R"},
    ]
    (path := tmp_path / "case.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in (f"{path}", f"{path}:exact:test"):
        task = jsonl.load(name)
        found = [problem for side in task.listed.values() for problem in side]
        assert sorted(problem.witness for problem in found) == ["R", "r"]
        assert len({problem.key for problem in found}) == 2
    assert len(task.listed["eval"]) == 2


def test_what_a_question_counts_may_stand_beside_the_number(tmp_path):
    row = {"question": "How many widgets cost 5 grand?", "answer": "5"}
    (path := tmp_path / "nouns.jsonl").write_text(json.dumps(row))
    task = jsonl.load(str(path))
    problem = next(problem for side in task.listed.values() for problem in side)
    assert task.check(problem, "5 widgets")
    assert not task.check(problem, "5 gadgets")
    assert not task.check(problem, "5 grand")


def test_a_solution_in_words_without_a_box_is_no_answer(tmp_path):
    for solution in ("Adding both, we see that it is 5.", "The answer is 5."):
        (path := tmp_path / "words.jsonl").write_text(json.dumps({"problem": "2+3?", "solution": solution}))
        with pytest.raises(TaskError, match=r"line 1: a solution without a \\boxed\{\} or ####"):
            jsonl.load(str(path))
    for solution in ("5", "Paris", "x = 5", "New York City", "\\boxed{5}"):
        path.write_text(json.dumps({"problem": "2+3?", "solution": solution}))
        jsonl.load(str(path))
