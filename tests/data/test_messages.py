"""Rows and files that can't be what they are taken for."""

import json
import os
import re

import pytest

from nomoat.config import DataError, TaskError
from nomoat.data.messages import conversation
from nomoat.data.readers import Span, document_of, read
from nomoat.data.sources import from_path
from nomoat.tasks import find
from nomoat.tokenizer.layout import Message

ASSISTANT = {"role": "assistant", "content": "1", "weight": 1}


def test_what_is_no_file_is_called_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(DataError, match="a.txt is a pipe; expected a text file"):
        list(from_path(tmp_path / "a.txt"))
    with pytest.raises(DataError, match="/dev/zero is a device; expected a text file"):
        list(from_path("/dev/zero"))
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(TaskError, match="a.jsonl is a pipe; expected a file of problems"):
        find.find(f"{tmp_path}/a.jsonl")
    (tmp_path / "b.py").mkdir()
    with pytest.raises(TaskError, match="b.py is a folder; expected a Python file"):
        find.find(f"{tmp_path}/b.py")


def test_tools_of_a_row_are_not_dropped(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "1"}]
    row = {"messages": turns, "tools": [{"type": "function", "function": {"name": "f"}}]}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row))
    assert [document.tools for document in from_path(path)] == [tuple(row["tools"])]
    with pytest.raises(TaskError, match="line 1 has tools"):
        find.find(str(path))
    path.write_text(json.dumps({"messages": turns, "tools": []}))
    assert len(list(from_path(path))) == 1


TURNS = [{"role": "user", "content": "a"}, ASSISTANT]
SHARED = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "1"}]


@pytest.mark.parametrize("name", ["weight", "Train", "trainOn", "loss_mask", "calculate_loss", "mask"])
def test_a_reply_that_is_not_to_be_learnt_is_refused(name):
    for value in (0, False, 0.5):
        said = f"has {name} {value}"
        with pytest.raises(DataError, match=f"message 2 {said}; every reply is learnt"):
            document_of({"messages": [TURNS[0], {**TURNS[1], "weight": 1, name: value}]}, "a.jsonl:1", "a")
        with pytest.raises(DataError, match=f"message 2 {said}; every reply is learnt"):
            document_of({"conversations": [SHARED[0], {**SHARED[1], name: value}]}, "a.jsonl:1", "a")
        for row in ({"messages": TURNS}, {"text": "a"}, {"prompt": "a", "completion": "b"}):
            with pytest.raises(DataError, match=f"a.jsonl:1 {said}; every reply is learnt"):
                document_of({**row, name: value}, "a.jsonl:1", "a")
    if name != "mask":
        assert document_of({"messages": [{**TURNS[0], name: 0}, TURNS[1]], name: 1}, "a.jsonl:1", "a").turns
        with pytest.raises(DataError, match="message 1 .*; nothing but replies is learnt"):
            document_of({"messages": [{**TURNS[0], name: 1}, TURNS[1]]}, "a.jsonl:1", "a")


@pytest.mark.parametrize("column", [None, "text"])
def test_a_mark_beside_a_chosen_column_of_a_table_counts(tmp_path, column):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for name, value in (("train", False), ("loss_weight", 0.0), ("split", "test"), ("images", ["a.png"])):
        row = {"text": "a", name: value, "url": "b"}
        parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "a.parquet")
        (tmp_path / "a.jsonl").write_text(json.dumps(row))
        for kind in ("parquet", "jsonl"):
            with pytest.raises(DataError, match=f"a.{kind}.*1 has `?{name}"):
                list(read(Span(tmp_path / f"a.{kind}"), column))


WRONG = {
    "a text of messages as Python prints them": ({"text": str(TURNS)}, "text holds messages as a text"),
    "a text of a template": ({"text": "<|im_start|>user\na"}, "begins with a chat template's <|im_start|>"),
    "held out": ({"messages": TURNS, "split": "validation"}, "has split 'validation'"),
    "unwanted": ({"prompt": "a", "completion": "b", "label": False}, "has label False"),
    "nothing": ({"messages": [TURNS[0], {"role": "assistant", "content": " "}]}, "message 2 says nothing"),
    "endless": ({"prompt": "a", "completion": "<think>b"}, "a chain of thought without an end"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_row_that_would_teach_something_else_is_told_its_place(name):
    row, complaint = WRONG[name]
    with pytest.raises(DataError, match=f"a.jsonl:1.*{re.escape(complaint)}"):
        document_of(row, "a.jsonl:1", "a")


def test_messages_in_a_text_are_messages():
    told = (Message("user", "a"), Message("assistant", "1"))
    for row in ({"text": json.dumps(TURNS)}, {"messages": json.dumps(TURNS)}, {"text": json.dumps(SHARED)},
                {"conversations": json.dumps(SHARED)}, {"prompt": json.dumps(TURNS[:1]), "completion": "1"}):
        assert document_of(row, "a.jsonl:1", "a").turns == told


def test_a_chain_may_stand_before_its_end_alone():
    for said in ("<think>b</think>1", "b</think>1", " <think>\nb\n</think>\n\n1"):
        turns = conversation([TURNS[0], {"role": "assistant", "content": said}], "a.jsonl:1")
        assert turns[1] == Message("assistant", "1", "b")


def test_what_is_beside_a_conversation_and_not_read_is_said():
    row = {"prompt": "a", "completion": "b", "context": "c", "rejected": "d", "id": 7, "url": ""}
    with pytest.warns(UserWarning, match="is not read: context, rejected$"):
        document_of(row, "a.jsonl:1", "a")
    with pytest.warns(UserWarning, match="is not read: emotion of messages$"):
        document_of({"messages": [TURNS[0], {**TURNS[1], "emotion": "calm"}]}, "a.jsonl:1", "a")
