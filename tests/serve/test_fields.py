"""Bad input: a mistake is named by its field, and never an error of the server."""

import pytest
from serving import CHAT, HI, TEXT, made, running


@pytest.fixture(scope="module")
def served():
    return made()


@pytest.fixture(scope="module")
def client(served):
    with running(served) as client:
        yield client


MESSAGES = HI["messages"]
WRONG = [
    ({}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": [123]}, "messages[0]"),
    ({"messages": [{}]}, "messages[0].role"),
    ({"messages": [{"role": 123, "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 123}]}, "messages[0].content"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages"),
    ({"messages": [{"role": "user", "content": "x" * 3000}]}, "messages"),
    *(
        ({"messages": MESSAGES, name: value}, name)
        for name, value in [
            ("max_tokens", 0),
            ("max_tokens", "5"),
            ("max_tokens", True),
            ("max_completion_tokens", -1),
            ("n", 0),
            ("n", 9),
            ("temperature", -0.1),
            ("temperature", 2.1),
            ("temperature", "1"),
            ("top_p", 0),
            ("top_p", 1.1),
            ("top_k", -2),
            ("min_p", 2),
            ("seed", 2**63),
            ("seed", 1.5),
            ("stop", ""),
            ("stop", ["a"] * 17),
            ("stop", "x" * 257),
            ("presence_penalty", 3),
            ("frequency_penalty", -3),
            ("top_logprobs", 21),
            ("top_logprobs", 2),
            ("stream", "yes"),
            ("stream_options", 5),
            ("model", 5),
            ("audio", {"voice": "x"}),
            ("modalities", ["audio"]),
            ("functions", [{"name": "f"}]),
            ("reasoning_effort", "huge"),
            ("thinking", {"type": "maybe"}),
            ("logit_bias", {"41": 101}),
            ("logit_bias", {"-1": 1}),
            ("logit_bias", [1]),
            ("logit_bias", {"\ud800": 1}),
            ("prediction", {"type": "content"}),
            ("web_search_options", {"x": 1}),
            ("store", True),
        ]
    ),
    ({"messages": MESSAGES, "logit_bias": {"300": 1}}, "logit_bias"),
    ({"messages": MESSAGES, "stream_options": {"include_usage": False}}, "stream_options"),
    ({"messages": MESSAGES, "stream": False, "stream_options": {}}, "stream_options"),
    ({"messages": MESSAGES, "stop": ["a", "\ud800"]}, "stop"),
    ({"messages": MESSAGES, "enable_thinking": True, "reasoning_effort": "none"}, "reasoning_effort"),
]
WRONG_TEXT = [
    ({}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt[0]"),
    ({"prompt": ["a"] * 65}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": [300]}, "prompt"),
    ({"prompt": [-1]}, "prompt[0]"),
    ({"prompt": ["a"] * 65}, "prompt"),
    ({"prompt": "a", "suffix": "b"}, "suffix"),
    ({"prompt": "a", "best_of": 3}, "best_of"),
    ({"prompt": "a", "logprobs": 21}, "logprobs"),
    ({"prompt": "a", "logprobs": True}, "logprobs"),
    ({"prompt": "x" * 3000}, "prompt"),
    ({"prompt": "a", "echo": 1}, "echo"),
    ({"prompt": "a", "stream_options": {}}, "stream_options"),
    ({"prompt": {"a": 1}}, "prompt"),
]


@pytest.mark.parametrize(
    ("path", "fields", "param"), [(CHAT, *row) for row in WRONG] + [(TEXT, *row) for row in WRONG_TEXT]
)
def test_a_mistake_is_named_by_its_field(client, path, fields, param):
    status, said = client.post(path, fields)
    assert status == 400, said
    assert said["error"]["type"] == "invalid_request_error"
    assert (said["error"]["param"] or "").startswith(param), said
    assert said["error"]["message"]


BROKEN = (b"", b"{", b"[]", b"null", b"5", b'{"messages": NaN}', b"\xff", b"[" * 100_000, b'{"a":' * 500_000,
          b'{"prompt": "x", "temperature": 1e400}', b'{"n": ' + b"9" * 5000 + b"}",
          b'{"user": ' + b"[" * 70 + b"]" * 70 + b"}")  # fmt: skip


def test_what_is_no_json_object_is_refused(client):
    for body in BROKEN:
        status, said = client.post(TEXT, body)
        assert status in (400, 413)
        assert set(said["error"]) == {"message", "type", "param", "code"}
    assert client.get("/v1/nothing")[1]["error"]["message"] == "no route /v1/nothing"
    assert client.get(CHAT)[0] == 405
    assert client.raw("OPTIONS", CHAT)[0] == 405


def test_what_asks_for_nothing_is_passed_over(client):
    harmless = {
        "modalities": ["text"],
        "store": False,
        "audio": None,
        "service_tier": "auto",
        "response_format": {"type": "text"},
        "tools": [],
        "tool_choice": "none",
        "metadata": {"a": "b"},
        "new_field": [1],
        "user": "me",
        "n": None,
        "stop": None,
        "max_tokens": None,
        "max_completion_tokens": 4,
        "parallel_tool_calls": True,
        "model": None,
        "stream_options": None,
    }
    parts = [{"type": "text", "text": "The"}, {"type": "text", "text": "lamp"}]
    messages = [
        {"role": "developer", "content": parts},
        {"role": "assistant", "content": None, "reasoning": "x"},
        *MESSAGES,
    ]
    status, said = client.post(CHAT, **HI | harmless | {"messages": messages})
    assert (status, said["usage"]["completion_tokens"]) == (200, 4)
