"""Who may ask, how much of everything, and that nothing is left of who has gone."""

import contextlib
import hashlib
import json
import socket
import threading
import time

import pytest
from serving import CHAT, HI, endless, made, running
from starlette.responses import Response
from starlette.routing import Mount, Route

from nomoat.config import ConfigError, DataError
from nomoat.serve.app import App
from nomoat.serve.limits import Doors, read_keys
from nomoat.serve.shelf import Entry, Shelf


@pytest.fixture(scope="module")
def served():
    return made()


@pytest.fixture(scope="module")
def client(served):
    with running(served) as client:
        yield client


def test_only_this_machine_by_its_names(client):
    port = client.port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", "[::1]:80"):
        assert client.raw("GET", "/health", headers={"Host": host})[0] == 200
    for host in (
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil",
        "[::2]",
        "a@localhost",
        "localhost/x",
    ):
        assert client.raw("GET", "/health", headers={"Host": host})[0] in (400, 403)
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 403")
    for origin, status in (
        ("http://evil.example", 403), ("null", 403), ("http://[x]", 403), ("http://[::1", 403),
        ("http://localhost@evil.example", 403), (f"http://localhost:{port}", 200),
    ):  # fmt: skip
        answer, headers, _ = client.raw("POST", CHAT, HI, {"Origin": origin})
        assert answer == status
        assert not [name for name in headers if name.lower().startswith("access-control")]


def test_a_key_opens_every_route_but_health(served):
    key = "a-key-of-some-length"
    doors = Doors("0.0.0.0", frozenset({"box.lan"}), frozenset({hashlib.sha256(key.encode()).digest()}))
    with running(served, doors) as client:
        paths = [route.path.replace("{name:path}", "lamp") for route in client.app.router.routes]
        for path in [*paths, "/nothing"]:
            wrong = ({}, {"Authorization": "Bearer wrong"}, {"Authorization": key}, {"x-api-key": ""})
            answers = [client.raw(method, path, headers=h) for method in ("GET", "POST") for h in wrong]
            expected = {200, 405} if path == "/health" else {401}
            assert {status for status, _, _ in answers} == expected
        for headers in (
            {"Authorization": f"Bearer {key}"},
            {"authorization": f"bearer {key}"},
            {"X-Api-Key": key},
        ):
            assert client.raw("GET", "/v1/models", headers={**headers, "Host": "box.lan"})[0] == 200


def test_a_body_or_header_that_is_too_long_is_not_read(served):
    with running(served, body_bytes=1000, header_bytes=4000) as client:
        status, headers, text = client.raw("POST", CHAT, b"x" * 1001)
        assert (status, headers["connection"], json.loads(text)["error"]["code"]) == (
            413,
            "close",
            "too_large",
        )
        with socket.create_connection(("127.0.0.1", client.port)) as one:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            one.sendall(head.encode() + b"ff\r\n" + b"x" * 255 + b"\r\n")
            for _ in range(4):
                one.sendall(b"ff\r\n" + b"x" * 255 + b"\r\n")
            assert one.recv(100).startswith(b"HTTP/1.1 413")
        assert client.raw("GET", "/health", headers={"X-Long": "x" * 5000})[0] in (400, 431)
        assert client.get("/health")[0] == 200


def test_a_full_queue_says_so(served):
    with running(served, queue=2) as client:
        with endless(client, n=4), endless(client, n=2):
            client.settled(6)
            status, headers, text = client.raw("POST", CHAT, HI)
            assert (status, headers["retry-after"]) == (429, "1")
            assert json.loads(text)["error"]["type"] == "rate_limit_error"
        client.settled()
        assert client.post(CHAT, **HI)[0] == 200
        assert client.post(CHAT, **HI, n=7)[1]["error"]["param"] == "n"


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_frees_the_place(client, served, stream, monkeypatch):
    """At once for who comes next, in the engine after the step that is computed."""
    steps, left = [], {}
    step, cancel, order = served.engine.step, served.engine.cancel, client.app.worker._order
    monkeypatch.setattr(served.engine, "step", lambda: steps.append(1) or step())
    monkeypatch.setattr(served.engine, "cancel", lambda n: left.update(freed=len(steps)) or cancel(n))
    monkeypatch.setattr(
        client.app.worker, "_order", lambda what, job: left.update({what: len(steps)}) or order(what, job)
    )
    body = json.dumps(
        HI | {"ignore_eos": True, "max_tokens": 240, "n": 2, "logprobs": True, "stream": stream}
    ).encode()
    with socket.create_connection(("127.0.0.1", client.port)) as one:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        one.sendall(head.encode() + body)
        client.settled(2)
    began = time.monotonic()
    client.settled()
    assert time.monotonic() - began < 2  # seconds on any machine; benchmarks/serving.py measures milliseconds
    assert client.app.worker.n_rows == 0
    assert not client.app.worker.jobs
    assert left["freed"] - left["end"] <= 1
    assert b'nomoat_refused_total{status="500"}' not in client.raw("GET", "/metrics")[2]


def test_slow_senders_stop_nobody_and_are_let_go(served):
    with running(served, receive_seconds=0.5) as client, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", client.port))) for _ in range(200)]
        for n, one in enumerate(slow):
            one.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                + (b"Content-Length: 9\r\n\r\n{" if n % 2 else b"")
            )
        assert client.post(CHAT, **HI)[0] == 200
        for one in slow:
            one.settimeout(60)
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b""


def test_a_server_that_ends_finishes_what_runs(served):
    said = []
    with running(served) as client:
        thread = threading.Thread(
            target=lambda: said.append(client.events(CHAT, **HI | {"max_tokens": 100, "ignore_eos": True}))
        )
        thread.start()
        client.settled(1)
    thread.join()
    assert said[0][-1]["choices"][0]["finish_reason"] == "length"
    assert not client.app.worker.thread.is_alive()


def test_replies_that_outlast_the_end_are_cut(served, capfd):
    said = []
    with running(served, drain_seconds=0.0) as client:
        asked = HI | {"max_tokens": 240, "ignore_eos": True, "logprobs": True}
        thread = threading.Thread(target=lambda: said.append(client.events(CHAT, **asked)))
        thread.start()
        client.settled(1)
    thread.join()
    assert said[0][-1]["choices"][0]["finish_reason"] == "length"
    assert sum(bool(event["choices"][0]["logprobs"]) for event in said[0]) < 240
    assert capfd.readouterr().err == ""


def test_a_model_that_fails_says_so_to_everyone(served, monkeypatch):
    with running(served) as client:
        monkeypatch.setattr(threading, "excepthook", lambda args: None)
        monkeypatch.setattr(served.engine, "step", lambda: 1 / 0)
        status, said = client.post(CHAT, **HI)
        assert (status, said["error"]["code"]) == (503, "model_failed")
        assert client.get("/health")[0] == 503
        assert client.post(CHAT, **HI)[0] == 503
    for number in [row.number for row in served.engine.scheduler.waiting]:
        served.engine.cancel(number)


def test_a_bug_is_told_by_its_place_and_not_by_what_was_asked(client, monkeypatch, caplog):
    def wrong(*_):
        raise ValueError(HI["messages"])

    for place in ("headers_of", "fields.parse"):
        monkeypatch.setattr(f"nomoat.serve.app.{place}", wrong)
        status, said = client.post(CHAT, **HI)
        assert (status, said["error"]["type"]) == (500, "server_error")
        assert "ValueError in /v1/chat/completions" in caplog.text
        assert "The lamp" not in caplog.text
        monkeypatch.undo()
        caplog.clear()


def test_a_reply_that_takes_too_long_ends_as_it_is(served):
    with running(served, answer_seconds=0.0) as client:
        for fields in (HI, HI | {"n": 2}):
            choices = client.post(CHAT, **fields)[1]["choices"]
            assert [choice["finish_reason"] for choice in choices] == ["length"] * fields.get("n", 1)
            events = client.events(CHAT, **fields)
            assert [c["finish_reason"] for c in events[-1]["choices"]] == ["length"]
        client.settled()


def test_files_ask_for_no_key(served):
    static = [Route("/", lambda request: Response("page")), Mount("/static", lambda *_: None)]
    app = App(Shelf([Entry("lamp", "", served=served)], 1), Doors(), static=static)
    free = {
        path: app.is_free(path)
        for path in ("/", "/static/a.js", "/health", "/v1/models", "/staticx", "/metrics")
    }
    assert free == {"/": True, "/static/a.js": True, "/health": True, "/v1/models": False, "/staticx": False,
                    "/metrics": False}  # fmt: skip


def test_another_address_asks_for_keys_that_are_worth_the_name(tmp_path):
    with pytest.raises(ConfigError, match="--address 0.0.0.0 .* expected a key"):
        Doors("0.0.0.0")
    file = tmp_path / "keys"
    key = "0123456789abcdef"
    file.write_text(f"{key}\n\nsha256:{hashlib.sha256(b'another').hexdigest()}\n")
    keys = read_keys(file)
    assert keys == {hashlib.sha256(text).digest() for text in (key.encode(), b"another")}
    assert key not in repr(Doors("0.0.0.0", keys=keys))
    for text, found in (("short", "can be guessed"), ("", "holds no key"), ("sha256:12", "64 hexadecimal")):
        file.write_text(text)
        with pytest.raises(DataError, match=found):
            read_keys(file)
    with pytest.raises(DataError, match="no keys in"):
        read_keys(tmp_path / "none")
