"""What form a reply has to have: every field that says so is held, and what can't be is a 400 by name."""

import json
import re

import pytest
from serving import CHAT, TEXT, made, running

pytest.importorskip("llguidance")
ASK = {"messages": [{"role": "user", "content": "The lamp"}], "max_tokens": 60, "model": "lamp", "seed": 1}
PAIR = {"type": "array", "items": {"enum": [1, 22]}, "minItems": 2, "maxItems": 2}


@pytest.fixture(scope="module")
def client():
    with running(made()) as client:
        yield client


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": PAIR}}},
        {"response_format": {"type": "json_object", "schema": PAIR}},
        {"structured_outputs": {"json": PAIR}},
        {"structured_outputs": {"regex": r"\[(1|22), (1|22)\]"}},
        {"guided_json": json.dumps(PAIR)},
        {"guided_regex": r"\[(1|22), (1|22)\]"},
        {"guided_choice": ["[1, 22]", "[22, 1]"]},
    ],
)
def test_each_field_is_held_whole_streamed_and_of_every_choice(client, fields):
    texts = re.compile(r"\[(1|22), (1|22)\]")
    status, said = client.post(CHAT, **ASK, **fields, n=3)
    assert status == 200, said
    replies = [choice["message"]["content"] for choice in said["choices"]]
    assert all(texts.fullmatch(reply) for reply in replies)
    assert {choice["finish_reason"] for choice in said["choices"]} == {"stop"}
    events = client.events(CHAT, **ASK, **fields)
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events) == replies[0]
    status, said = client.post(TEXT, prompt="The lamp", max_tokens=60, model="lamp", **fields)
    assert texts.fullmatch(said["choices"][0]["text"])


def test_a_length_stop_inside_is_reported(client):
    _, said = client.post(CHAT, **ASK | {"max_tokens": 2}, guided_choice=["[1, 22, 333]"])
    assert said["choices"][0]["finish_reason"] == "length"


SCHEMA = "response_format.json_schema.schema"


def form(schema: object) -> dict:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        (form({"type": "array", "uniqueItems": True}), SCHEMA, "uniqueItems"),
        (form({"properties": {"a": {"not": {}}}}), SCHEMA, "not"),
        (form(123), SCHEMA, "dictionary"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, SCHEMA, "missing"),
        ({"response_format": {"type": "sound"}}, "response_format.type", "json_object"),
        (
            {"response_format": {"type": "json_object", "json_schema": {"schema": {}}}},
            "response_format.json_schema",
            "json_object",
        ),
        ({"guided_json": "\ud800"}, "guided_json", "JSON"),
        ({"guided_json": {"type": "integer", "minimum": 10**40}}, "guided_json", "minimum in the schema"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "response_format", "both"),
        ({"response_format": 3}, "response_format", "dictionary"),
        ({"guided_regex": "["}, "guided_regex", "unclosed"),
        ({"guided_choice": []}, "guided_choice", "at least 1"),
        ({"guided_json": "{"}, "guided_json", "JSON"),
        ({"guided_grammar": "root ::= x"}, "guided_grammar", "not supported"),
        ({"structured_outputs": {"grammar": "root ::= x"}}, "structured_outputs.grammar", "None"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag", "None"),
        ({"guided_regex": "a", "structured_outputs": {"choice": ["a"]}}, "structured_outputs.choice", "both"),
        ({"guided_regex": "(a{1,1000}){1,1000}", "logit_bias": {"2": -100}}, None, "simplify"),
    ],
)
def test_what_cannot_be_held_is_refused_by_name(client, fields, param, message):
    status, said = client.post(CHAT, **ASK, **fields)
    assert (status, said["error"]["param"]) == (400, param)
    assert message in said["error"]["message"]
