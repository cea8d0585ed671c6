"""Rows with tools: alike from every file, told with their place where they are wrong, shown as learnt."""

import json
import re
from dataclasses import replace

import calling
import pytest

from nomoat.config import DataError
from nomoat.data import documents, shown, sources
from nomoat.data.readers import document_of
from nomoat.tokenizer.calls import Call
from nomoat.tokenizer.layout import Message

TURNS = (
    Message("user", "Rain?"), Message("assistant", "", "hm", (Call("weather", {"city": "Rome"}, "a"),)),
    Message("tool", "sun", answers="a", name="weather"), Message("assistant", "No."),
)  # fmt: skip
CALL = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
TEXT = calling.calling("weather", {"city": "Rome"})
ASK, RESULT, LAST = (
    {"role": "user", "content": "Rain?"},
    {"role": "tool", "tool_call_id": "a", "name": "weather", "content": "sun"},
    {"role": "assistant", "content": "No."},
)


def reply(*calls, content=None, **more):
    return {"role": "assistant", "content": content, "tool_calls": [*calls], **more}


OLDER = {"role": "assistant", "content": None, "reasoning_content": "hm", "function_call": TEXT["function"]}
GAVE = {"role": "function", "name": "weather", "content": "sun"}
FUNCTION = calling.WEATHER["function"]
SHARED = [
    {"from": "human", "value": "Rain?"},
    {"from": "function_call", "value": json.dumps(CALL["function"]), "reasoning": "hm"},
    {"from": "observation", "value": "sun", "name": "weather"},
    {"from": "gpt", "value": "No."},
]
ROWS = {
    "objects": {"messages": [ASK, reply(CALL, reasoning_content="hm"), RESULT, LAST]},
    "a text": {"messages": [ASK, reply(TEXT, content="<think>hm</think>"), RESULT, LAST]},
    "sides": {"prompt": [ASK, reply(CALL, content="", thinking="hm"), RESULT], "completion": [LAST]},
}


OTHERS = {
    "older": {"messages": [ASK, OLDER, GAVE, LAST], "functions": [FUNCTION]},
    "sharegpt": {"conversations": SHARED, "tools": [FUNCTION]},
    "flat": {"conversations": SHARED, "tools": [FUNCTION | {"type": "function"}]},
}
UNNAMED = tuple(
    replace(turn, calls=tuple(replace(call, id=None) for call in turn.calls), answers=None) for turn in TURNS
)


def written(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("as_text", [False, True], ids=["list", "text"])
def test_every_way_gives_the_same_turns_and_tools(row, kind, as_text, tmp_path):
    tools = [calling.WEATHER]
    row = row | {"tools": json.dumps(tools) if as_text else tools}
    (document,) = sources.from_path(written(tmp_path / f"rows.{kind}", [row]))
    assert (document.turns, document.tools) == (TURNS, (calling.WEATHER,))


@pytest.mark.parametrize("row", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("as_text", [False, True], ids=["list", "text"])
def test_other_layouts_give_the_turns_and_tools_of_todays(row, kind, as_text, tmp_path):
    if as_text:
        row = {name: json.dumps(value) for name, value in row.items()}
    (document,) = sources.from_path(written(tmp_path / f"rows.{kind}", [row]))
    assert (document.turns, document.tools) == (UNNAMED, (calling.WEATHER,))


def test_a_turn_of_sharegpt_may_hold_several_calls():
    both = [{"name": "weather", "arguments": {"city": city}} for city in ("Rome", "Oslo")]
    given = [SHARED[0], {"from": "tool_call", "value": json.dumps(both)}]
    given += [{"from": "tool_response", "value": said} for said in ("sun", "rain")]
    document = document_of({"conversations": [*given, SHARED[-1]]}, "a:1", "a")
    assert document.turns[1].calls == tuple(Call(**call) for call in both)
    assert [turn.role for turn in document.turns[2:]] == ["tool", "tool", "assistant"]


def test_a_table_gives_no_row_the_fields_of_another(tmp_path):
    clock = {"id": "a", "type": "function", "function": {"name": "clock", "arguments": {"zone": "CET"}}}
    rows = [
        {"messages": [ASK, reply(call), RESULT, LAST], "tools": [calling.function(name, key)]}
        for call, name, key in ((CALL, "weather", "city"), (clock, "clock", "zone"))
    ]
    read = [[*sources.from_path(written(tmp_path / f"a.{kind}", rows))] for kind in ("parquet", "jsonl")]
    of_table, of_lines = ([(document.turns, document.tools) for document in some] for some in read)
    assert of_table == of_lines
    nowhere = CALL | {"function": {"name": "weather", "arguments": {"city": None}}}
    missing = {"messages": [ASK, reply(nowhere), LAST]}
    (document,) = sources.from_path(written(tmp_path / "b.jsonl", [missing]))
    assert document.turns[1].calls[0].arguments == {"city": None}


def test_another_call_or_tool_is_another_text():
    row = {"messages": [ASK, reply(CALL), LAST], "tools": [calling.WEATHER]}
    others = [
        row,
        row | {"messages": [ASK, reply(calling.calling("weather", {"city": "Oslo"})), LAST]},
        row | {"tools": [calling.function("weather")]},
        row | {"tools": None},
    ]
    assert len({documents.sha256([document_of(other, "a:1", "a")]) for other in others}) == 4


def of(arguments):
    return {"function": {"name": "f", "arguments": arguments}}


WRONG = {
    "older": ([ASK, {"role": "assistant", "function_call": "f"}], "`tool_calls` with \"{'function': 'f'}\""),
    "both": ([ASK, reply(CALL, function_call={"name": "f"})], "2 has `tool_calls` and `function_call`"),
    "an older result": ([ASK, {"role": "function", "content": "7"}], "2 has a tool's result behind no call"),
    "nothing said": ([ASK, reply()], "message 2 has no text"),
    "a blank": ([ASK, reply(content=" ")], "message 2 says nothing"),
    "no list": ([ASK, LAST | {"tool_calls": CALL}], "message 2 has `tool_calls` that are no list"),
    "no name": ([ASK, reply({"function": {}})], "message 2 has `tool_calls` with"),
    "another kind": ([ASK, reply(CALL | {"type": "code"})], "message 2 has `tool_calls` with"),
    "no JSON": ([ASK, reply(of("{"))], "`arguments` of 'f' that are a text"),
    "no object": ([ASK, reply(of("[]"))], "of 'f' are a list; expected an"),
    "the user's": ([ASK | {"tool_calls": [CALL]}, LAST], "message 1 has `tool_calls`, which"),
    "no call": ([ASK, RESULT, LAST], "message 2 has a tool's result behind no call"),
    "no result": ([ASK, reply(CALL), RESULT | {"content": None}, LAST], "message 3 has no text"),
    "a number": ([ASK, reply(CALL), RESULT | {"tool_call_id": 7}, LAST], "has a int as `tool_call_id`"),
    "a weight": ([ASK, reply(CALL, weight=0), RESULT, LAST], "message 2 has weight 0; every reply"),
    "its weight": ([ASK, reply(CALL), RESULT | {"weight": 1}, LAST], "message 3 has weight 1; nothing but"),
}


@pytest.mark.parametrize("name", WRONG)
def test_calls_that_can_not_be_read_are_told_with_their_place(name):
    messages, complaint = WRONG[name]
    with pytest.raises(DataError, match=f"a.jsonl:1.*{re.escape(complaint)}"):
        document_of({"messages": messages}, "a.jsonl:1", "a")


@pytest.mark.parametrize("name", ["tools", "functions"])
@pytest.mark.parametrize(
    "tools", [{"a": 1}, "{", ["f"], [{"type": "web"}], calling.WEATHER, [{"function": {}}], [{"name": 7}]]
)
def test_tools_that_are_none_are_told(tools, name):
    with pytest.raises(DataError, match=f"a.jsonl:1 has `{name}`.*expected"):
        document_of({"messages": [ASK, LAST], name: tools}, "a.jsonl:1", "a")
    with pytest.raises(DataError, match="a.jsonl:1 has `tools` and `functions`; expected one"):
        document_of({"messages": [ASK, LAST], "functions": [FUNCTION], "tools": tools}, "a.jsonl:1", "a")


@pytest.mark.parametrize(
    ("turn", "complaint"),
    [
        ({"from": "function_call", "value": "look()"}, "turn 2 has calls that are a text but no JSON"),
        ({"from": "function_call", "value": None}, "message 2 has `tool_calls` with \"{'function': None}\""),
        ({"from": "tool_call", "value": "[7]"}, "message 2 has `tool_calls` with \"{'function': 7}\""),
        ({"from": "observation", "value": "7"}, "message 2 has a tool's result behind no call"),
        ({"from": ["gpt"], "value": "7"}, "turn 2 is from ['gpt']; expected one of human"),
    ],
)
def test_calls_of_sharegpt_that_can_not_be_read_are_told(turn, complaint):
    with pytest.raises(DataError, match=f"a.jsonl:1, {re.escape(complaint)}"):
        document_of({"conversations": [SHARED[0], turn, SHARED[-1]]}, "a.jsonl:1", "a")


def test_rows_with_tools_are_shown_with_what_is_learnt(tmp_path):
    path = written(tmp_path / "rows.jsonl", [ROWS["objects"] | {"tools": [calling.WEATHER]}])
    lines = [*shown.show(path, calling.made("qwen"), 1)]
    learnt = [line[4:] for line in lines if shown.is_learnt(line)]
    call = '{"name": "weather", "arguments": {"city": "Rome"}}'
    assert learnt == [
        "<think>", "hm", "</think>", "", "<tool_call>", call, "</tool_call><|im_end|>",
        "<think>", "", "</think>", "", "No.<|im_end|>",
    ]  # fmt: skip
    assert any("The weather." in line for line in lines)


def test_a_conversation_that_its_template_does_not_take_is_told_by_its_question(tmp_path):
    plain = [{"messages": [ASK | {"content": f"{n}?"}, LAST]} for n in range(70)]
    two = {"messages": [ASK | {"content": "Both?"}, reply(CALL, CALL), RESULT, LAST]}
    path = written(tmp_path / "rows.jsonl", [*plain, two])
    read = documents.prose(sources.from_path(path), calling.made("llama3"))
    with pytest.raises(DataError, match="rows.jsonl, the conversation of 'Both[?]': .*One call at a time"):
        list(read)
