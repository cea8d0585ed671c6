"""The lines of an event log as server-sent events, while another process writes them and when it is gone."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nomoat.config import JsonObject
from nomoat.run.lock import holder
from nomoat.serve.answer import PING, PING_SECONDS, connected

LOOK_SECONDS = 0.4  # between two looks at the log
STATE_SECONDS = 2.0  # between two looks at who writes it
CHUNK_BYTES = 256 << 10


class Tail:
    """Whole lines from line `after` on; a torn last one waits.  `reset` once another log is in the place."""

    def __init__(self, path: Path, after: int) -> None:
        self.path, self.number, self.offset = path, 0, 0
        self.inode: int | None = None
        self.left = max(after, 0)  # lines to pass over

    def more(self) -> tuple[bool, list[tuple[int, bytes]]]:
        """(whether the log was replaced, the next lines with their numbers, the first being 1)."""
        try:
            stat = self.path.stat()
        except OSError:
            return False, []
        replaced = self.inode is not None and (stat.st_ino != self.inode or stat.st_size < self.offset)
        if replaced:
            self.number = self.offset = self.left = 0
        self.inode = stat.st_ino
        if stat.st_size == self.offset:
            return replaced, []
        return replaced, list(self._lines())

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        n_bytes = 0
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                self.number += 1
                if self.left:
                    self.left -= 1
                    continue
                yield self.number, line.rstrip(b"\r\n")
                n_bytes += len(line)
                if n_bytes > CHUNK_BYTES:
                    return


class Following(Response):
    """Server-sent events: a line of the log each, its number as the id; "state" says whether somebody works
    on the run, "reset" that all that was said before is void.
    """

    def __init__(self, root: Path, after: int) -> None:
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self.root, self.tail = root, Tail(root / "events.jsonl", after)
        self.running: bool | None = None
        self.look_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with connected(receive):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            sent = time.monotonic()
            while not getattr(scope["app"], "ending", False):
                data = await asyncio.to_thread(self.news)
                if not data and time.monotonic() - sent < PING_SECONDS:
                    await asyncio.sleep(LOOK_SECONDS)
                    continue
                sent = time.monotonic()
                await send({"type": "http.response.body", "body": data or PING, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    def news(self) -> bytes:
        """What is new by now."""
        replaced, lines = self.tail.more()
        data = told("reset", {}, 0) if replaced else b""
        data += b"".join(b"id: %d\ndata: %b\n\n" % line for line in lines)
        if time.monotonic() >= self.look_at:
            self.look_at = time.monotonic() + STATE_SECONDS
            before, self.running = self.running, holder(self.root / "lock") is not None
            data += told("state", {"running": self.running}) if self.running != before else b""
        return data


def told(name: str, value: JsonObject, number: int | None = None) -> bytes:
    """An event with a name."""
    head = b"" if number is None else b"id: %d\n" % number
    return head + f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()
