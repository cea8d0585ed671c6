"""A server with a tiny random model in a thread, and a client that asks it through a socket."""

import contextlib
import http.client
import json
import socket
import threading
import time

import torch
from shapes import shape, varied

from nomoat.engine.engine import Engine, Limits
from nomoat.model.transformer import Transformer
from nomoat.serve import server
from nomoat.serve.app import App
from nomoat.serve.limits import Bounds, Doors
from nomoat.serve.shelf import Entry, Served, Shelf, fingerprint
from nomoat.tokenizer import bpe

SPEC = shape(
    vocab_size=300, n_layers=2, d_model=16, n_heads=2, d_nope=8, d_rope=4, d_value=8, d_kv_latent=8, d_ffn=24,
    context=256,
)  # fmt: skip
PLAIN = {"messages": [{"role": "user", "content": "The lamp"}], "max_tokens": 8, "temperature": 0}
LETTERS = {str(id): -100 for id in (*range(8), *range(102, 300))}  # visible ones of ASCII alone, and no end
HI = PLAIN | {"logit_bias": LETTERS}
ROWS = 4


CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
DOORS = Doors()


def made(context: int = SPEC.context) -> Served:
    """A model that says letters at random, to which it is told (LETTERS)."""
    torch.set_num_threads(1)
    tokenizer = bpe.train(["The lamp is on. Die Lampe ist grün. " * 9], 300)
    model = Transformer(varied(SPEC, context=context)).initialise(3).eval()
    engine = Engine(model, Limits(rows=ROWS), tokenizer=tokenizer)
    return Served("lamp", engine, tokenizer, fingerprint(engine, tokenizer))


@contextlib.contextmanager
def running(served, doors=DOORS, static=(), more=(), **bounds):
    """A server in a thread, asked at its port."""
    shelf = Shelf([Entry("lamp", "", served=served)], ROWS)
    app = App(shelf, doors, Bounds(**bounds), static, more)
    bound = server.listening("127.0.0.1", 0)
    bound.listen(64)
    uvicorn_server = server.Server(app)
    thread = threading.Thread(target=uvicorn_server.run, args=([bound],))
    thread.start()
    try:
        yield Client(bound.getsockname()[1], app, uvicorn_server.server_state.connections)
    finally:
        uvicorn_server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


class Client:
    """Asks one server; a new connection for each request."""

    def __init__(self, port, app, connections):
        self.port, self.app, self.connections = port, app, connections

    def raw(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
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
        engine, end = self.app.shelf.entries["lamp"].served.engine, time.monotonic() + 60
        while self.app.worker.n_rows != n_rows or engine.busy != bool(n_rows):
            assert time.monotonic() < end
            threading.Event().wait(0.002)

    def alone(self):
        """Waits until nothing runs and every connection is closed, at the server's end too."""
        self.settled()
        end = time.monotonic() + 60
        while self.connections:
            assert time.monotonic() < end
            threading.Event().wait(0.002)


@contextlib.contextmanager
def endless(client, **fields):
    """A stream that runs until the block is left without a word."""
    body = json.dumps(
        HI | {"ignore_eos": True, "max_tokens": 240, "stream": True, "logprobs": True} | fields
    ).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", client.port)) as one:
        one.sendall(head.encode() + body)
        assert one.recv(20).startswith(b"HTTP/1.1 200")
        yield one
