"""A conversation is the same turns in whichever way its row keeps it."""

import json

import pytest

from nomoat.config import DataError
from nomoat.data import sources
from nomoat.tokenizer.layout import Message

TURNS = (
    Message("system", "Be brief."), Message("user", "1+1?"), Message("assistant", "2", "one and one"),
    Message("user", "2+2?"), Message("assistant", "4"),
)  # fmt: skip
SYSTEM, ASK, REPLY, AGAIN, LAST = (
    {"role": turn.role, "content": turn.content if not turn.thinking else "<think>one and one</think>2"}
    for turn in TURNS
)
SHARED = [
    {"from": who, "value": message["content"]}
    for who, message in zip(("human", "gpt", "user", "assistant"), (ASK, REPLY, AGAIN, LAST))
]
ROWS = {
    "messages": {"messages": [SYSTEM, ASK, REPLY, AGAIN, LAST]},
    "beside": {"messages": [ASK, REPLY, AGAIN, LAST], "system": "Be brief."},
    "sides": {"prompt": [ASK, REPLY, AGAIN], "completion": [LAST], "system": "Be brief."},
    "sharegpt": {"conversations": SHARED, "system": "Be brief.", "id": 3},
    "inside": {"conversations": [{"from": "system", "value": "Be brief."}, *SHARED]},
    "both sides": {"prompt": [SYSTEM, ASK, REPLY, AGAIN], "completion": [LAST]},
    "half": {"prompt": [SYSTEM, ASK, REPLY, AGAIN], "completion": "4"},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_every_way_gives_the_same_turns(row, kind, tmp_path):
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        path.write_text(json.dumps(row) + "\n")
    elif row is ROWS["half"]:
        pytest.skip("a column of one type")
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    (document,) = sources.from_path(path)
    assert document.turns == TURNS


def test_a_question_and_its_answer_are_two_turns(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "1+1?", "completion": "2"}))
    (document,) = sources.from_path(tmp_path / "a.jsonl")
    assert document.turns == (Message("user", "1+1?"), Message("assistant", "2"))


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"prompt": "a"}, r"has the keys \['prompt'\], none of them a text"),
        ({"completion": "a"}, "has a NoneType beside its completion or for it"),
        ({"prompt": 3, "completion": "a"}, "has a int beside its completion"),
        ({"messages": [ASK], "completion": "a"}, "has `messages` and `completion`"),
        ({"conversations": [{"from": "nobody", "value": "7"}]}, "turn 1 is from 'nobody'; expected one"),
        ({"conversations": [{"from": "tool", "value": "7"}]}, "message 1 has a tool's result behind no call"),
        ({"messages": [SYSTEM, ASK, REPLY], "system": "b"}, "has `system` beside turns with one"),
        ({"messages": [ASK, REPLY], "system": 3}, "system is a int; expected a text"),
        ({"conversations": ["hi"]}, "turn 1 is from 'hi'"),
        ({"conversations": "hi"}, "`conversations` that are no list"),
        ({"conversations": [{"from": "gpt"}]}, "message 1 has no text"),
        ({"conversations": SHARED[:1]}, "has no turn of the assistant to learn"),
        ({"prompt": "a", "completion": ["b"]}, "message 2 has the role 'b'"),
    ],
)
def test_what_is_no_conversation_is_told_with_its_place(row, complaint, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(DataError, match=f"rows.jsonl:1.*{complaint}"):
        list(sources.from_path(path))
