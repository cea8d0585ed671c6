"""Columns of a row that say what its answer is agree, or the row is refused with its line."""

import json

import pytest

from nomoat.config import TaskError
from nomoat.tasks import jsonl


@pytest.fixture
def write(tmp_path):
    def written(rows):
        path = tmp_path / "mine.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
        return str(path)

    return written


CONTRADICTORY = [
    {"answer": "5", "solution": "So \\boxed{6}."},
    {"answer": "5", "solution": "So\n#### 6"},
    {"answer": "so\n#### 6", "solution": "\\boxed{7}"},
    {"answer": "5", "ground_truth": "6"},
    {"answer": 5, "ground_truth": 6.5},
    {"answer": "Yes", "solution": "\\boxed{No}"},
    {"answer": "2 m", "solution": "\\boxed{2 cm}", "units": {"m": 100, "cm": 1}},
]
CONSISTENT = [
    {"answer": "1/2", "solution": "It is 0.5, so \\boxed{\\frac12}"},
    {"answer": "It is 5", "solution": "\\boxed{5}"},
    {"answer": "5", "solution": "no box and no mark"},
    {"answer": 1.5, "ground_truth": "3/2"},
    {"answer": "2 m", "solution": "\\boxed{200 cm}", "units": {"m": 100, "cm": 1}},
]


@pytest.mark.parametrize("row", CONTRADICTORY)
def test_a_row_whose_columns_end_in_different_answers_is_told_its_line(write, row):
    path = write([{"question": "!", "answer": "1"}, {"question": "?", **row}])
    with pytest.raises(TaskError, match="line 2: its answer is .* ends in .*; expected the same; mend one"):
        jsonl.load(path)


@pytest.mark.parametrize("row", CONSISTENT)
def test_a_row_whose_columns_end_in_one_answer_is_taken(write, row):
    jsonl.load(write([{"question": "?", **row}]))


def test_of_contradicting_columns_one_may_be_chosen(write):
    path = write([{"question": "?", "answer": "dam\\frac", "solution": "So\n\\boxed{\\frac12}"}])
    task = jsonl.load(f"{path}:answer=solution:exact:test")
    assert task.listed["eval"][0].witness == "\\frac12"


def test_a_last_message_may_not_contradict_the_answer(write):
    turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "\\boxed{3}"}]
    with pytest.raises(TaskError, match="line 1: its answer is '2', but its solution ends in '3'"):
        jsonl.load(write([{"messages": turns, "answer": "2"}]))


def test_one_answer_in_two_spellings_is_one(write):
    path = write([{"question": q, "answer": a} for q, a in (("a", "1/2"), ("A", "0.5"))])
    assert sum(map(len, jsonl.load(path).listed.values())) == 1
    with pytest.raises(TaskError, match="line 2: the question has another answer above, '1/2' and not '0.5'"):
        jsonl.load(path + ":line")
