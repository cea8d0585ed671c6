"""The event log RUN/events.jsonl: append-only, one write a line; all that is known of a run is read from it.
"""

import errno
import json
import math
import os
import re
import threading
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from pathlib import Path

from nomoat.config import DataError, JsonObject
from nomoat.files import FULL

Event = JsonObject
KIND = re.compile(rb'\{"kind": "([^"\\]*)"')  # as `append` begins a line
REPEATABLE = frozenset(("step", "work", "score", "sample", "probe"))  # what a stage that resumes may do again


class Log:
    """Appends events, each whole or not at all, and reads them back.

    On a full disk a line waits in memory and goes out, in order, before the next one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write: Callable[[int, bytes], int] = os.write
        self._fd: int | None = None
        self._waiting: list[bytes] = []
        self._mutex = threading.Lock()

    def append(self, event: Event) -> None:
        with self._mutex:
            self._waiting.append(json.dumps(event, allow_nan=False).encode() + b"\n")
            self._flush()

    def flush(self) -> int:
        """Writes what waits; gives the number of lines that still find no space."""
        with self._mutex:
            self._flush()
            return len(self._waiting)

    def sync(self) -> None:
        """Makes the log durable.  OSError (ENOSPC) while lines still wait."""
        if n_waiting := self.flush():
            raise OSError(errno.ENOSPC, f"{n_waiting} lines of the log wait for space", str(self.path.parent))
        if self._fd is not None:
            os.fsync(self._fd)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    def events(self, *kinds: str) -> list[JsonObject]:
        """Every event in order, or those of some kinds; a torn last line was never one.  What was done again
        carries `"redone": True`.

        A line that begins as one of another kind is passed over unread: a log is nearly all steps.
        """
        read = {*kinds, "step", "resume"} if REPEATABLE.intersection(kinds) else {*kinds}
        data = self.path.read_bytes() if self.path.exists() else b""
        lines = enumerate(data.split(b"\n")[:-1] + [line[:-1] for line in self._waiting], 1)
        events = [self._event(line, number) for number, line in lines if not kinds or may_be(line, read)]
        mark_redone(events)
        return of_kinds(events, kinds)

    def _event(self, line: bytes, number: int) -> JsonObject:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict) and "kind" in event:
            return event
        raise DataError(
            f"{self.path}, line {number} is no event (found {line[:60]!r}); "
            "expected a JSON object with a kind; the file was damaged from outside: "
            "restore it, or delete that line"
        )

    def _flush(self) -> None:
        while self._waiting:
            line = self._waiting[0]
            try:
                if self._fd is None:
                    self._fd = _open_whole(self.path)
                size = os.fstat(self._fd).st_size
                if self.write(self._fd, line) < len(line):
                    os.ftruncate(self._fd, size)
                    return
            except OSError as error:
                if error.errno not in FULL:
                    raise
                return
            del self._waiting[0]


class Still(Log):
    """A log that is read once, whatever becomes of its file."""

    @cached_property
    def _read(self) -> list[JsonObject]:
        return super().events()

    def events(self, *kinds: str) -> list[JsonObject]:
        return of_kinds(self._read, kinds)


def may_be(line: bytes, kinds: Collection[str]) -> bool:
    """Whether a line of the log may hold an event of these kinds."""
    begins = KIND.match(line)
    return begins is None or begins[1].decode() in kinds


def of_kinds(events: list[Event], kinds: Collection[str]) -> list[Event]:
    """Those of some kinds; without any, all."""
    return [event for event in events if event["kind"] in kinds] if kinds else events


def _open_whole(path: Path) -> int:
    """A file descriptor to append with, after cutting a last line that a killed process left torn."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.ftruncate(fd, whole)
    return fd


def mark_redone(events: list[JsonObject]) -> None:
    """After a resume at step n, what its stage logged from step n + 1 on was done again; so was a repeated
    step.

    Such records carry `"redone": True`: they cost what they cost, but they are no points of a curve.
    """
    last_step = {}
    after_step = []  # the step after which each event was logged
    for event in events:
        stage = event.get("stage")
        if event["kind"] in ("step", "resume"):
            last_step[stage] = event["step"]
        after_step.append(last_step.get(stage, -1))
    again = {}  # the first step that is done again further on
    for event, step in zip(reversed(events), reversed(after_step)):
        stage, kind = event.get("stage"), event["kind"]
        first = again.get(stage, math.inf)
        if step >= first and kind in REPEATABLE:
            event["redone"] = True
        if kind in ("step", "resume"):
            again[stage] = min(first, event["step"] + (kind == "resume"))


def last_scores(events: Iterable[Event]) -> list[Event]:
    """The last measurement of each thing; one that was done again does not count."""
    last = {}
    for event in events:
        if event["kind"] == "score" and not event.get("redone"):
            last[event["name"], event.get("model"), event.get("family"), event.get("level")] = event
    return list(last.values())


def last_plan(events: Iterable[Event]) -> list[Event]:
    """What each stage was to take, as it was estimated before the run; none where nobody did, or where the
    recipe has changed since.
    """
    stages = []
    for event in events:
        if event["kind"] in ("plan", "continue"):
            stages = event.get("stages", [])
    return stages


def is_blank(events: Iterable[Event]) -> bool:
    """Whether nothing was done yet: at most, stages began."""
    done = {"step", "work", "score", "stage_end", "resume"}
    return not any(event["kind"] in done for event in events)
