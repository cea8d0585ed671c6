"""Laws of a chat through a real socket: whole and in a stream, alone and in company, thinking or not."""

import threading

import pytest
from serving import CHAT, HI, PLAIN, TEXT, endless, made, running

from nomoat.engine.generate import sample
from nomoat.tokenizer import layout
from nomoat.tokenizer.layout import Message


@pytest.fixture(scope="module")
def served():
    return made()


@pytest.fixture(scope="module")
def client(served):
    with running(served) as client:
        yield client


def test_a_chat_is_the_greedy_sample(client, served):
    status, said = client.post(CHAT, **PLAIN)
    prompt = layout.render(served.tokenizer, [Message("user", "The lamp")], generate=True).ids
    ends = sorted(served.tokenizer.layout.turn_ends)
    [[one]] = sample(served.engine.model, [prompt], max_new_tokens=8, seed=0, stop_ids=ends, greedy=True)
    choice = said["choices"][0]
    assert (status, said["object"], said["model"]) == (200, "chat.completion", "lamp")
    assert choice["message"]["content"] == served.tokenizer.decode(one.ids_T.tolist())
    assert choice["finish_reason"] == "length"
    assert said["usage"]["prompt_tokens"] == len(prompt)
    assert said["usage"]["completion_tokens"] == 8
    assert said["system_fingerprint"] == served.fingerprint


SETTINGS = [
    {},
    {"n": 3, "seed": 4, "temperature": 1},
    {"stop": [" is", "on"], "temperature": 1.5, "seed": 1, "max_tokens": 30},
    {"logprobs": True, "top_logprobs": 2, "logit_bias": {"41": 50}},
    {"thinking_token_budget": 3, "enable_thinking": True},
    {"top_p": 0.5, "top_k": 5, "min_p": 0.1, "presence_penalty": 1, "frequency_penalty": 0.5, "seed": 9},
]


@pytest.mark.parametrize("fields", SETTINGS)
def test_a_stream_says_what_the_whole_answer_says(client, fields):
    _, whole = client.post(CHAT, **HI | fields)
    events = client.events(CHAT, **HI | fields, stream_options={"include_usage": True})
    assert {event["id"] for event in events} == {events[0]["id"]}
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    for n, choice in enumerate(whole["choices"]):
        parts = [c for event in events for c in event["choices"] if c["index"] == n]
        assert parts[0]["delta"]["role"] == "assistant"
        assert all("role" not in part["delta"] for part in parts[1:])
        assert [part["finish_reason"] for part in parts if part["finish_reason"]] == [choice["finish_reason"]]
        for name in ("content", "reasoning_content", "reasoning"):
            assert "".join(p["delta"].get(name, "") for p in parts) == choice["message"].get(name, "")
        if choice["logprobs"]:
            lists = [p["logprobs"]["content"] for p in parts if p["logprobs"]]
            assert sum(lists, []) == choice["logprobs"]["content"]
    *others, last = events
    cached = {"prompt_tokens_details": last["usage"]["prompt_tokens_details"]}
    assert (last["choices"], last["usage"]) == ([], whole["usage"] | cached)
    assert all(event["usage"] is None for event in others)


def test_the_same_seed_says_the_same_alone_and_in_company(client):
    fields = HI | {"temperature": 1, "seed": 5, "max_tokens": 30}
    alone = client.post(CHAT, **fields)[1]["choices"][0]["message"]
    said = []
    threads = [threading.Thread(target=lambda: said.append(client.post(CHAT, **fields)[1])) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each["choices"][0]["message"] for each in said] == [alone] * 9
    assert client.post(CHAT, **fields | {"seed": 6})[1]["choices"][0]["message"] != alone


def test_thinking_is_on_off_or_bounded(client, served):
    def asked(**fields):
        choice = client.post(CHAT, **HI | {"max_tokens": 9, "logprobs": True} | fields)[1]["choices"][0]
        return (
            choice["message"].get("reasoning_content", ""),
            choice["message"]["content"],
            choice["logprobs"],
        )

    on = asked(enable_thinking=True)
    assert on[0]
    assert not on[1]  # it never ends by itself
    assert len(on[2]["reasoning_content"]) == 9
    for how in ({"chat_template_kwargs": {"enable_thinking": True}}, {"thinking": {"type": "enabled"}},
                {"reasoning_effort": "xhigh"}):  # fmt: skip
        assert asked(**how)[:2] == on[:2]
    off = asked(enable_thinking=False)
    assert off[1]
    assert not off[0]
    for how in ({"chat_template_kwargs": {"thinking": False}}, {"thinking": {"type": "disabled"}},
                {"reasoning_effort": "none"}):  # fmt: skip
        assert asked(**how)[:2] == off[:2]
    for how in ({"thinking_token_budget": 5, "enable_thinking": True},
                {"thinking": {"type": "enabled", "budget_tokens": 5}}):  # fmt: skip
        bounded = asked(**how)
        assert bounded[1]
        assert len(bounded[2]["reasoning_content"]) == 5
    said = client.post(CHAT, **HI | {"thinking_token_budget": 5, "enable_thinking": True})[1]
    assert said["usage"]["completion_tokens_details"]["reasoning_tokens"] == 6  # and the mark
    assert said["choices"][0]["message"]["reasoning"] == said["choices"][0]["message"]["reasoning_content"]


def test_models_are_named(client):
    listed = client.get("/v1/models")[1]
    assert [model["id"] for model in listed["data"]] == ["lamp"]
    assert client.get("/v1/models/lamp")[1] == listed["data"][0]
    for path, fields in ((CHAT, HI), (TEXT, {"prompt": "a"}), ("/v1/tokenize", {"prompt": "a"})):
        status, said = client.post(path, **fields, model="lmap")
        assert (status, said["error"]["param"], said["error"]["code"]) == (404, "model", "model_not_found")
        assert "did you mean `lamp`" in said["error"]["message"]
    assert client.get("/v1/models/other")[0] == 404


def test_the_document_describes_every_route(client):
    document = client.get("/openapi.json")[1]
    routes = {
        (route.path.replace(":path", ""), method)
        for route in client.app.router.routes
        for method in route.methods
    }
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert {(path, method) for path, method in routes if method != "HEAD"} == described
    fields = document["components"]["schemas"]["ChatBody"]["properties"]
    assert {"messages", "temperature", "stream_options", "reasoning_effort"} <= fields.keys()


def counted(client):
    text = client.raw("GET", "/metrics")[2].decode()
    return {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line[0] != "#"}


def test_samples_that_wait_for_a_row_are_counted(client):
    with endless(client, n=8, seed=1):
        now = counted(client)
        gauges = [now[f'nomoat_rows_{what}{{model="lamp"}}'] for what in ("running", "waiting")]
    client.settled()
    assert sum(gauges) == 8
    assert gauges[1] >= 4


def test_counters_count(client):
    before = counted(client)
    client.post(CHAT, **HI)
    after = counted(client)
    grown = {name: after[name] - before[name] for name in before if after[name] != before[name]}
    assert grown['nomoat_completion_tokens_total{model="lamp"}'] == 8
    assert grown['nomoat_requests_total{end="done",model="lamp"}'] == 1
    assert grown['nomoat_first_token_seconds_count{model="lamp"}'] == 1
