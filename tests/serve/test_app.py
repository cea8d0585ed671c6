"""Laws of the server, through a real socket: what it answers, whom, and what nothing is left of."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time

import pytest
import torch
import uvicorn
from shapes import shape

from nomoat.engine.engine import Engine, Limits
from nomoat.engine.generate import sample
from nomoat.model.transformer import Transformer
from nomoat.serve import server
from nomoat.serve.app import App
from nomoat.serve.limits import Bounds, Doors
from nomoat.serve.shelf import Entry, Served, Shelf, fingerprint
from nomoat.tokenizer import bpe, layout
from nomoat.tokenizer.layout import Message

SPEC = shape(
    vocab_size=300, n_layers=2, d_model=16, n_heads=2, d_nope=8, d_rope=4, d_value=8, d_kv_latent=8, d_ffn=24,
    context=256,
)  # fmt: skip
HI = {"messages": [{"role": "user", "content": "The lamp"}], "max_tokens": 8, "temperature": 0}
ROWS = 4


@pytest.fixture(scope="module")
def served():
    torch.set_num_threads(1)
    tokenizer = bpe.train(["The lamp is on. Die Lampe ist grün. " * 9], 300)
    model = Transformer(SPEC).initialise(3).eval()
    engine = Engine(model, Limits(rows=ROWS), tokenizer=tokenizer)
    return Served("lamp", engine, tokenizer, fingerprint(engine, tokenizer))


@contextlib.contextmanager
def running(served, doors=Doors(), **bounds):
    """A server in a thread, asked at its port."""
    shelf = Shelf([Entry("lamp", "", served=served)], ROWS)
    app = App(shelf, doors, Bounds(**bounds))
    bound = server.listening("127.0.0.1", 0)
    bound.listen(64)
    uvicorn_server = uvicorn.Server(server.configured(app))
    thread = threading.Thread(target=uvicorn_server.run, args=([bound],))
    thread.start()
    try:
        yield Client(bound.getsockname()[1], app)
    finally:
        uvicorn_server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


class Client:
    """Asks one server; a new connection for each request."""

    def __init__(self, port, app):
        self.port, self.app = port, app

    def raw(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, headers or {})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, answer.headers, text

    def get(self, path, **headers):
        status, _, text = self.raw("GET", path, headers=headers)
        return status, json.loads(text)

    def post(self, path, body=None, **fields):
        status, _, text = self.raw("POST", path, fields if body is None else body)
        return status, json.loads(text)

    def events(self, path, **fields):
        status, headers, text = self.raw("POST", path, {**fields, "stream": True})
        assert status == 200, text
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        *lines, end, nothing = text.decode().split("\n\n")
        assert (end, nothing) == ("data: [DONE]", "")
        return [json.loads(line.removeprefix("data: ")) for line in lines]

    def settled(self, n_rows=0):
        """Waits until so many rows run or wait."""
        scheduler = self.app.shelf.entries["lamp"].served.engine.scheduler
        end = time.monotonic() + 5
        while len(scheduler.running) + len(scheduler.waiting) != n_rows:
            assert time.monotonic() < end
            threading.Event().wait(0.002)


@pytest.fixture(scope="module")
def client(served):
    with running(served) as client:
        yield client


CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def test_a_chat_is_the_greedy_sample(client, served):
    status, said = client.post(CHAT, **HI)
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
    {}, {"n": 3, "seed": 4, "temperature": 1}, {"stop": [" is", "on"], "temperature": 1.5, "seed": 1, "max_tokens": 60},
    {"logprobs": True, "top_logprobs": 2}, {"logit_bias": {"40": 50}}, {"thinking_token_budget": 3, "enable_thinking": True},
    {"top_p": 0.5, "top_k": 5, "min_p": 0.1, "presence_penalty": 1, "frequency_penalty": 0.5, "seed": 9, "temperature": 1},
]  # fmt: skip


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
    assert (last["choices"], last["usage"]) == ([], whole["usage"] | {"prompt_tokens_details": last["usage"]["prompt_tokens_details"]})
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
