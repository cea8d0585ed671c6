"""Rows and files that can't be what they are taken for."""

import json
import os

import pytest

from nomoat.config import DataError, TaskError
from nomoat.data.messages import conversation
from nomoat.data.readers import document_of
from nomoat.data.sources import from_path
from nomoat.tasks import find

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
    row = {"messages": turns, "tools": [{"type": "function"}]}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(DataError, match="a.jsonl:1 has `tools`"):
        list(from_path(path))
    with pytest.raises(TaskError, match="line 1 has tools"):
        find.find(str(path))
    path.write_text(json.dumps({"messages": turns, "tools": []}))
    assert len(list(from_path(path))) == 1


def test_a_reply_that_is_not_to_be_learnt_is_refused():
    marks = {"weight": 0, "train": False, "Train": False, "trainable": False, "loss": False, "loss_mask": 0}
    for name, value in marks.items():
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "1", name: value}]
        with pytest.raises(DataError, match=f"message 2 has {name} {value}; every reply is learnt"):
            conversation(turns, "a.jsonl:1")
        with pytest.raises(DataError, match=f"a.jsonl:1 has {name} {value}; every reply is learnt"):
            document_of({"messages": [turns[0], ASSISTANT], name: value}, "a.jsonl:1", "a")
        shared = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "1", name: value}]
        with pytest.raises(DataError, match=f"message 2 has {name} {value}; every reply is learnt"):
            document_of({"conversations": shared}, "a.jsonl:1", "a")
        assert conversation([{"role": "user", "content": "a", name: value}, ASSISTANT], "a.jsonl:1")
