"""/v1/messages: what is said whole is said by events, block by block, in Anthropic's words."""

import json

import pytest
from pydantic_core import from_json
from serving import made, running

from nomoat.serve.messages import MessageBody, chat_of

PATH = "/v1/messages"
TOOL = {
    "name": "switch",
    "input_schema": {"type": "object", "properties": {"on": {"const": 1}}, "required": ["on"]},
}
ASK = {
    "model": "lamp",
    "messages": [{"role": "user", "content": "The lamp"}],
    "max_tokens": 40,
    "temperature": 0,
}
FORCED = {
    "tools": [TOOL],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "max_tokens": 99,
}
UNHELD = {"type": "json_schema", "schema": {"not": {}}}
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 5}}


@pytest.fixture(scope="module")
def client():
    pytest.importorskip("llguidance")
    with running(made(1024)) as client:
        yield client


def streamed(client, **fields) -> list[dict]:
    status, _, text = client.raw("POST", PATH, {**fields, "stream": True})
    assert status == 200, text
    blocks = [block.split("\n") for block in text.decode().split("\n\n")[:-1]]
    events = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [name for name, _ in blocks] == [f"event: {event['type']}" for event in events]
    return events


def built(events: list[dict]) -> dict:
    """The message that a client puts together."""
    message, parts = dict(events[0]["message"]), {}
    for event in events[1:]:
        if event["type"] == "content_block_start":
            assert event["index"] == len(message["content"])
            message["content"].append(dict(event["content_block"]))
            parts[event["index"]] = ""
        elif event["type"] == "content_block_delta":
            [text] = [value for name, value in event["delta"].items() if name != "type"]
            parts[event["index"]] += text
        elif event["type"] == "content_block_stop":
            block = message["content"][event["index"]]
            if block["type"] == "tool_use":
                block["input"] = from_json(parts[event["index"]], allow_partial=True)
            else:
                block[block["type"]] = parts[event["index"]]
        elif event["type"] == "message_delta":
            message |= event["delta"] | {"usage": event["usage"]}
    assert events[-1] == {"type": "message_stop"}
    return message


def bare(message: dict) -> dict:
    content = [{name: value for name, value in block.items() if name != "id"} for block in message["content"]]
    usage = {
        n: v for n, v in message["usage"].items() if n not in ("input_tokens", "cache_read_input_tokens")
    }
    return message | {"id": "", "content": content, "usage": usage}


@pytest.mark.parametrize(
    "fields",
    [
        {}, THINKING, FORCED, FORCED | THINKING, {"stop_sequences": ["a", "e", "n"]},
        FORCED | {"max_tokens": 48},
    ],
)  # fmt: skip
def test_events_build_what_is_said_whole(client, fields):
    _, whole = client.post(PATH, **ASK | fields)
    assert bare(built(streamed(client, **ASK | fields))) == bare(whole)
    assert whole["stop_reason"] in ("end_turn", "max_tokens", "tool_use", "stop_sequence")
    if whole["stop_reason"] == "stop_sequence":
        assert whole["stop_sequence"] in fields["stop_sequences"]
    if "tools" in fields:
        whole_call = ("tool_use", {"on": 1}) if fields["max_tokens"] == 99 else ("max_tokens", {})
        assert (whole["stop_reason"], whole["content"][-1]["input"]) == whole_call


def test_tokens_are_counted_as_they_are_read(client):
    fields = {"system": "Be brief.", "tools": [TOOL]}
    _, said = client.post(PATH, **ASK, **fields)
    asked = {name: value for name, value in ASK.items() if name in ("model", "messages")}
    _, counted = client.post(f"{PATH}/count_tokens", **asked, **fields)
    usage = said["usage"]
    assert counted["input_tokens"] == usage["input_tokens"] + usage["cache_read_input_tokens"]
    long = asked | {"messages": [{"role": "user", "content": "x" * 3000}]}
    assert client.post(f"{PATH}/count_tokens", **long)[1]["input_tokens"] > 256  # more than can be read


def test_a_tier_that_asks_for_nothing_is_passed_over(client):
    assert client.post(PATH, **ASK | {"max_tokens": 1, "service_tier": "standard_only"})[0] == 200


def test_blocks_become_turns():
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "b", "signature": ""}, {"type": "text", "text": "c"},
            {"type": "tool_use", "id": "t", "name": "switch", "input": {"on": 1}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "d"}]},
            {"type": "text", "text": "e", "cache_control": {"type": "ephemeral"}}]},
    ]  # fmt: skip
    body = MessageBody.model_validate({"model": "m", "max_tokens": 1, "messages": turns})
    call = {"id": "t", "function": {"name": "switch", "arguments": {"on": 1}}}
    assert chat_of(body)["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "c", "tool_calls": [call], "reasoning_content": "b"},
        {"role": "tool", "content": "d", "tool_call_id": "t"},
        {"role": "user", "content": "e"},
    ]


def of(kind: str) -> dict:
    return {"role": "user", "content": [{"type": kind}]}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [*ASK["messages"], {"role": "assistant", "content": "b"}]}, "messages[1]"),
        ({"messages": [of("image")]}, "messages[0].content[0].type"),
        ({"messages": [of("tool_result")]}, "messages[0].content[0].tool_use_id"),
        ({"tool_choice": {"type": "tool"}, "tools": [TOOL]}, "tool_choice.name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"temperature": 1.5}, "temperature"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"output_config": {"format": UNHELD}}, "output_config.format"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_named_in_their_form(client, fields, name):
    status, said = client.post(PATH, **ASK | fields)
    assert (status, said["type"], said["error"]["type"]) == (400, "error", "invalid_request_error")
    assert name in said["error"]["message"]
