"""JSON over HTTP to one server, which may be away for a while.  Asked directly: no proxy, no redirect."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from nomoat.config import JsonObject, UserError
from nomoat.files import visible

Given = TypeVar("Given")
BUSY = (408, 425, 429)  # and all from 500 on: the server may answer the same later
PAUSE_SECONDS = (0.05, 2.0)  # between two tries, the first and the longest
SAID = 400  # characters of a server's words that an error repeats


def never() -> bool:
    """What is not."""
    return False


class Away(Exception):
    """No answer: the connection failed, or the server is too busy; `lost`: it may have been started anew."""

    def __init__(self, words: str, *, lost: bool):
        super().__init__(words)
        self.lost = lost


class Server:
    """A server under `url`, such as http://host:8000/v1, asked by several threads.

    Without an answer to anybody for `patience_seconds` it is given up, or where `given_up()`.
    `found_again` is called before a lost server is asked anew: one that was started again has forgotten what
    it was told.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        patience_seconds: float,
        *,
        found_again: Callable[[], object] = never,
        given_up: Callable[[], bool] = never,
    ):
        parts = urlsplit(url)
        self.url, self.root, self.place = url, parts.path.removesuffix("/").removesuffix("/v1"), parts.netloc
        self.kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.headers = {"Content-Type": "application/json"}
        if key is not None:
            self.headers["Authorization"] = f"Bearer {key}"
        self.patience_seconds = patience_seconds
        self.heard = -float("inf")  # when it last answered
        self.lost = False
        self.finding = threading.RLock()
        self.found_again, self.given_up = found_again, given_up

    def once(self, method: str, path: str, body: JsonObject | None = None) -> JsonObject:
        """The answer; Away where there is none yet, UserError where the server refuses or says no JSON."""
        connection = self.kind(self.place, timeout=self.patience_seconds)
        data = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, f"{self.root}{path}", data, self.headers)
            answer = connection.getresponse()
            status, text = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Away(f"{type(error).__name__}: {error}", lost=True) from None
        finally:
            connection.close()
        said = visible(text.decode("utf-8", "replace"))[:SAID]
        if status in BUSY or status >= 500:
            raise Away(f"status {status}: {said}", lost=False)
        if status != 200:
            raise UserError(
                f"{self.url} refuses {path} (status {status}): {said}; expected an answer; mend what it "
                "names, here or where the server was started"
            )
        self.heard = time.monotonic()
        try:
            table = json.loads(text)
        except (ValueError, RecursionError):
            table = None
        if not isinstance(table, dict):
            raise UserError(f"{self.url} answers {path} with {said[:80]!r}; expected a JSON object")
        return table

    def ask(self, method: str, path: str, body: JsonObject | None = None) -> JsonObject:
        """The answer, waited for as `patiently` does."""
        return self.patiently(lambda: self.once(method, path, body), path)

    def patiently(self, work: Callable[[], Given], what: str) -> Given:
        """What `work` gives, tried until it isn't Away; UserError where the patience is over."""
        began, pause = time.monotonic(), PAUSE_SECONDS[0]
        while True:
            try:
                self.find()
                return work()
            except Away as away:
                self.lost |= away.lost
                waited = time.monotonic() - max(self.heard, began)
                if waited > self.patience_seconds or self.given_up():
                    raise UserError(
                        f"{self.url} gives no answer to {what} ({away}), for {waited:.0f} s now; expected "
                        f"one within {self.patience_seconds:.0f}; start it again, and then the same command: "
                        "it goes on from its last checkpoint"
                    ) from None
            threading.Event().wait(pause)
            pause = min(2 * pause, PAUSE_SECONDS[1])

    def find(self) -> None:
        """Told anew what it has to know, if it was lost."""
        if not self.lost:
            return
        with self.finding:
            if self.lost:
                self.found_again()
                self.lost = False
