"""Rollouts to leaf through: an index of where each step's stand in the file, which grows with it.

The file of a long run is larger than memory: only the steps that a page shows are read.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nomoat.report.rollouts import FIRST, ONLY, Record

HEAD = re.compile(rb'\{"step": ?(\d+)(?:, ?"group": ?(\d+))?')
AT = re.compile(r"([0-9]{1,12})\.([0-9]{1,9})")  # the id of a record
MOST_BYTES = 48 << 20  # that one page looks through


@dataclass
class Segment:
    """The records of a step, from byte to byte."""

    step: int
    start: int
    end: int


@dataclass(frozen=True)
class Page:
    """Records, each with `id` ("STEP.NUMBER"), and the id from which on the next page goes."""

    records: list[Record]
    following: str | None


class Leaves:
    """The rollouts in one file, the newest step first; what was sampled again after a resume counts once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mutex = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self.segments: list[Segment] = []
        self._inode: int | None = None
        self._end = self._step = self._group = 0
        self._first = b""

    def steps(self) -> list[int]:
        """The steps that have records, in order."""
        with self._mutex:
            self._refresh()
            return [segment.step for segment in self.segments]

    def ends(self) -> dict[str, list[int]]:
        """The first and the last of these steps, each alone in a list, which is empty where there is none."""
        steps = self.steps()
        return {"first": steps[:1], "last": steps[-1:]}

    def page(
        self,
        fits: Callable[[Record], object],
        limit: int,
        at: str | None = None,
        step: int | None = None,
    ) -> Page:
        """At most `limit` records that fit, from the one with id `at` on; `step`: of this one alone."""
        with self._mutex:
            self._refresh()
            segments = [s for s in reversed(self.segments) if step in (None, s.step)]
        first, number = _parsed(at)
        if first is not None:
            segments = [s for s in segments if s.step <= first]
            number = number if segments and segments[0].step == first else 0
        found: list[Record] = []
        n_bytes = 0
        for segment in segments:
            for place, record in self._records(segment):
                if place < number or not fits(record):
                    continue
                if len(found) == limit:
                    return Page(found, f"{segment.step}.{place}")
                found.append({**record, "id": f"{segment.step}.{place}"})
            number, n_bytes = 0, n_bytes + segment.end - segment.start
            if n_bytes > MOST_BYTES and segment is not segments[-1]:
                return Page(found, f"{segments[segments.index(segment) + 1].step}.0")
        return Page(found, None)

    def _records(self, segment: Segment) -> Iterator[tuple[int, Record]]:
        with open(self.path, "rb") as file:
            file.seek(segment.start)
            data = file.read(segment.end - segment.start)
        for place, line in enumerate(data.splitlines()):
            try:
                record = json.loads(line[max(line.rfind(FIRST), 0) :])
            except ValueError:
                continue
            if isinstance(record, dict):
                yield place, record

    def _refresh(self) -> None:
        """Takes in what the file has more."""
        try:
            stat = self.path.stat()
        except OSError:
            self._forget()
            return
        if stat.st_ino != self._inode or stat.st_size < self._end:
            self._forget()
            self._inode = stat.st_ino
        with open(self.path, "rb") as file:
            file.seek(self._end)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                start = max(line.rfind(FIRST), 0)
                if match := HEAD.match(line, start):
                    self._take(line[start:], self._end + start, start > 0, match)
                self._end += len(line)
                if self.segments:
                    self.segments[-1].end = self._end

    def _take(self, line: bytes, place: int, torn: bool, match: re.Match[bytes]) -> None:
        """A step begins again where its number or its first line comes back."""
        step = int(match[1])
        group = int(match[2] or 0)
        again = torn or (line == self._first and self._group and not group)
        segments = self.segments
        if step == self._step and again:
            del segments[-1:]
        if step < self._step:
            self.segments = segments = [each for each in segments if each.step < step]
        if not segments or segments[-1].step != step:
            segments.append(Segment(step, place, place))
            self._first = line
        self._step, self._group = step, group


def fitting(family: str | None, only: str) -> Callable[[Record], bool]:
    """Whether a record is of a family and of a kind of ONLY."""
    return lambda record: family in (None, record.get("family")) and bool(ONLY[only](record))


def _parsed(at: str | None) -> tuple[int | None, int]:
    found = AT.fullmatch(at or "")
    return (int(found[1]), int(found[2])) if found else (None, 0)
