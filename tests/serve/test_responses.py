"""/v1/responses: what is said whole is said by events, item by item, and what isn't honoured is named."""

import json

import pytest
from serving import made, running

from nomoat.serve.items import Response
from nomoat.serve.refusal import Refusal
from nomoat.serve.responses import ResponseBody, chat_of, response

PATH = "/v1/responses"
TOOL = {
    "type": "function",
    "name": "switch",
    "parameters": {"type": "object", "properties": {"on": {"const": 1}}},
}
ASK = {"model": "lamp", "input": "The lamp", "max_output_tokens": 40, "temperature": 0}


@pytest.fixture(scope="module")
def client():
    pytest.importorskip("llguidance")
    with running(made(1024)) as client:
        yield client


def streamed(client, path: str, **fields) -> list[dict]:
    """The events of a stream, whose names are their types."""
    status, _, text = client.raw("POST", path, {**fields, "stream": True})
    assert status == 200, text
    events = []
    for block in text.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def bare(value):
    """A response without what differs each time."""
    if isinstance(value, list):
        return [*map(bare, value)]
    if isinstance(value, dict):
        gone = ("id", "call_id", "created_at", "completed_at", "input_tokens_details")
        return {name: bare(inner) for name, inner in value.items() if name not in gone}
    return value


CHOICE = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
FORM = {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "boolean"}}}}


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"reasoning": {"effort": "low"}}, CHOICE, FORM, {"include": ["message.output_text.logprobs"]},
        CHOICE | {"max_output_tokens": 46}, CHOICE | {"max_output_tokens": 120},
    ],
)  # fmt: skip
def test_events_build_what_is_said_whole(client, fields):
    _, whole = client.post(PATH, **ASK | fields)
    events = streamed(client, PATH, **ASK | fields)
    assert [event["sequence_number"] for event in events] == [*range(len(events))]
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1]["type"] == f"response.{whole['status']}"
    assert bare(events[-1]["response"]) == bare(whole)
    items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert items == events[-1]["response"]["output"]
    for n, item in enumerate(items):
        mine = [event for event in events if event.get("output_index") == n]
        text = "".join(event["delta"] for event in mine if event["type"].endswith(".delta"))
        assert text == (item["arguments"] if "arguments" in item else item["content"][0]["text"])
        assert mine[0]["type"] == "response.output_item.added"
        assert {event["item_id"] for event in mine if "item_id" in event} == {item["id"]}


def test_what_was_asked_for_is_said(client):
    _, said = client.post(PATH, **ASK | {"max_output_tokens": 120}, **CHOICE)
    [*_, item] = said["output"]
    assert (item["type"], item["name"], said["status"]) == ("function_call", "switch", "completed")
    assert json.loads(item["arguments"]) in ({}, {"on": 1})
    _, said = client.post(PATH, **ASK, **FORM)
    assert said["output"][-1]["content"][0]["text"] in ("true", "false")


def test_items_become_turns():
    call = {"type": "function_call", "call_id": "c", "name": "switch", "arguments": "{}"}
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "reasoning", "content": None},
        {"role": "assistant", "content": [{"type": "output_text", "text": "b"}]}, call, call,
        {"type": "function_call_output", "call_id": "c", "output": "d"},
    ]  # fmt: skip
    fields = {"model": "m", "input": items, "instructions": "e", "frequency_penalty": 0.5}
    body = ResponseBody.model_validate(fields)
    assert chat_of(body)["frequency_penalty"] == 0.5
    system, user, assistant, tool = chat_of(body)["messages"]
    assert system == {"role": "system", "content": "e"}
    assert user["content"] == [{"type": "input_text", "text": "a"}]
    assert [one["id"] for one in assistant["tool_calls"]] == ["c", "c"]
    assert tool == {"role": "tool", "content": "d", "tool_call_id": "c"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "x"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"truncation": "auto"}, "truncation"),
        ({"model": None}, "model"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "function_call", "name": "x"}]}, "input[0].arguments"),
        ({"text": {"format": {"type": "json_schema", "schema": {"not": {}}}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"reasoning": {"effort": "enormous"}}, "reasoning.effort"),
    ],
)
def test_what_is_not_honoured_is_named(client, fields, param):
    status, said = client.post(PATH, **ASK | fields)
    assert (status, said["error"]["param"]) == (400, param)


def test_what_goes_wrong_on_the_way_is_an_event(client):
    body = ResponseBody.model_validate(ASK)
    served = client.app.shelf.entries["lamp"].served
    form = Response(body, served, response(body, served))
    wrong, failed = form.error(Refusal("too much", "text", code="x").as_json())
    assert wrong.data == {
        "type": "error", "sequence_number": 0, "code": "x", "message": "too much", "param": "text",
    }  # fmt: skip
    assert failed.name == failed.data["type"] == "response.failed"
    assert failed.data["response"]["error"] == {"code": "server_error", "message": "too much"}
