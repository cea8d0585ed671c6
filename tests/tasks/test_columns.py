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
    path = write([{"question": q, "answer": a} for q, a in (("half", "1/2"), ("Half", "0.5"))])
    assert sum(map(len, jsonl.load(path).listed.values())) == 1
    with pytest.raises(TaskError, match="line 2: the question has another answer above, '1/2' and not '0.5'"):
        jsonl.load(path + ":line")


NO_ROWS = {
    'lang is \'german\'; expected "en" or "de"': {"answer": "7,5", "lang": "german"},
    "lang is 5; expected": {"answer": "7,5", "lang": 5},
    "the unit 'cm' is worth '0,01'; expected": {"answer": "8 cm", "units": {"m": 1, "cm": "0,01"}},
    "the unit 'cm' is worth 0; expected": {"answer": "8 cm", "units": {"m": 1, "cm": 0}},
    "units are \\['m'\\]; expected": {"answer": "8 m", "units": ["m"]},
    "inputs that are a str and no list": {"answer": "def f(x): ...", "inputs": "12", "outputs": "34"},
    "outputs that are a dict and no list": {"answer": "def f(x): ...", "inputs": [1], "outputs": {"a": 1}},
}


@pytest.mark.parametrize("complaint", NO_ROWS)
def test_a_column_that_cannot_be_read_is_told_its_line(write, complaint):
    with pytest.raises(TaskError, match=f"line 1: {complaint}"):
        jsonl.load(write([{"question": "?", **NO_ROWS[complaint]}]))


def test_a_language_may_be_in_capitals_and_empty(write):
    rows = [{"question": "a", "answer": "7,5", "lang": "DE"}, {"question": "b", "answer": "7.5", "lang": ""}]
    task = jsonl.load(write(rows) + ":exact:test")
    assert [task.check(p, "15/2") for p in task.listed["eval"]] == [True, True]


def test_a_number_keeps_all_its_digits(write):
    path = write([{"question": "pi?", "answer": 3.25}])
    with open(path, "a") as file:
        file.write('\n{"question": "more?", "answer": 3.14159265358979323846}')
    answers = [p.witness for p in jsonl.load(path + ":test").listed["eval"]]
    assert answers == ["3.25", "3.14159265358979323846"]


def test_a_question_with_other_tests_is_no_repetition(write):
    row = {"question": "Double x.", "answer": "def f(x): return 2 * x", "inputs": [1], "outputs": [2]}
    assert sum(map(len, jsonl.load(write([row, row])).listed.values())) == 1
    with pytest.raises(TaskError, match="line 2: the question stands above with other tests or units"):
        jsonl.load(write([row, row | {"inputs": ["a"], "outputs": ["aa"]}]))
