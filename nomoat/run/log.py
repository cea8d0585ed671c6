"""The event log as its readers see it: what was done again, and which measurement is the last."""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def last_scores(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last measurement of each thing; one that was done again does not count."""
    scores = (e for e in events if e["kind"] == "score" and not e.get("redone"))
    return list({(e["name"], e.get("model"), e.get("family"), e.get("level")): e for e in scores}.values())


def open_log(path: Path) -> int:
    """A file descriptor to append with, after cutting a last line that a killed process left torn."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.ftruncate(fd, whole)
    return fd


def mark_redone(events: list[dict[str, Any]]) -> None:
    """After a resume at step n, what its stage logged from step n + 1 on was done again; so was a repeated step."""
    at: dict[str | None, int] = {}
    places = []  # the step after which each event was logged
    for event in events:
        if event["kind"] in ("step", "resume"):
            at[event.get("stage")] = event["step"]
        places.append(at.get(event.get("stage"), -1))
    again: dict[str | None, float] = {}  # the first step that is done again further on
    for event, place in zip(reversed(events), reversed(places)):
        stage, kind = event.get("stage"), event["kind"]
        first = again.get(stage, math.inf)
        if place >= first and kind in ("step", "work", "score", "sample", "probe"):
            event["redone"] = True
        if kind in ("step", "resume"):
            again[stage] = min(first, event["step"] + (kind == "resume"))
