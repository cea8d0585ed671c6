"""A server that is away for a while, and one that is gone."""

import contextlib
import functools
import http.server
import json
import threading

import pytest

from nomoat.config import UserError
from nomoat.rl.wire import Server

GOOD = (200, b'{"ok": true}')


@contextlib.contextmanager
def scripted(*answers):
    """A server that gives these answers one after the other (None: it hangs up), and what it was asked."""
    left, asked = [*answers], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, json.loads(body), self.headers["Authorization"]))
            answer = left.pop(0)
            if answer is not None:
                self.send_response(answer[0])
                self.end_headers()
                self.wfile.write(answer[1])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", asked
        finally:
            server.shutdown()
            thread.join()


def test_a_lost_server_is_told_what_it_has_to_know_before_it_is_asked_again():
    with scripted(None, GOOD, GOOD, GOOD) as (url, asked):
        teller = Server(url, "secret", 60.0)
        told = functools.partial(teller.once, "POST", "/update", {"now": 1})
        server = Server(url, "secret", 60.0, found_again=told)
        assert server.ask("POST", "/v1/completions", {"n": 1}) == {"ok": True}
        server.ask("POST", "/v1/completions", {"n": 2})
    assert [(path, body) for path, body, _ in asked] == [
        ("/v1/completions", {"n": 1}), ("/update", {"now": 1}), ("/v1/completions", {"n": 1}),
        ("/v1/completions", {"n": 2}),
    ]  # fmt: skip
    assert {key for *_, key in asked} == {"Bearer secret"}


def test_one_that_is_busy_is_asked_again_as_it_is():
    with scripted((429, b"full"), (503, b"not yet"), GOOD) as (url, asked):
        server = Server(url, None, 60.0, found_again=functools.partial(pytest.fail, "it was not away"))
        assert server.ask("POST", "/x", {}) == {"ok": True}
    assert [key for *_, key in asked] == [None] * 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((400, b'{"error": "too long\x1b[2J"}'), r"refuses /x .status 400.*too long\\x1b\[2J"),
        ((404, b"no such route"), "refuses /x .status 404.: no such route"),
        ((302, b""), "refuses /x .status 302"),
        ((200, b"<html>"), "expected a JSON object"),
        ((200, b"[1]"), "expected a JSON object"),
        ((200, b"[" * 100_000), "expected a JSON object"),
    ],
)
def test_a_refusal_is_final_and_its_words_are_harmless(answer, said):
    with scripted(answer) as (url, asked):
        with pytest.raises(UserError, match=said):
            Server(url, None, 60.0).ask("POST", "/x", {})
        assert len(asked) == 1


def test_one_that_is_gone_is_given_up(free_port):
    server = Server(f"http://127.0.0.1:{free_port}/v1", None, 0.1)
    with pytest.raises(UserError, match="gives no answer to /x .ConnectionRefused.*start it again"):
        server.ask("POST", "/x", {})
    server = Server(server.url, None, 60.0, given_up=functools.partial(bool, 1))  # a signal asked to stop
    with pytest.raises(UserError, match="gives no answer"):
        server.ask("POST", "/x", {})
