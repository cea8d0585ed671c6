"""What the policy wrote and what it got for it: RUN/<stage>/rollouts.jsonl, one JSON object a line."""

import json
import textwrap
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.config import DataError
from nomoat.files import visible
from nomoat.run.directory import Run

FIRST = b'{"step":'  # how a record begins; inside one it can't stand, a quote in a text is escaped
Record = Mapping[str, Any]
ONLY: dict[str, Callable[[Record], object]] = {
    "all": bool,
    "right": lambda record: record.get("strict"),
    "wrong": lambda record: not (record.get("strict") or record.get("undecided")),
    "doubted": lambda record: record.get("shadow"),
}


def read(
    run: Run,
    stage: str,
    *,
    step: int | None = None,
    family: str | None = None,
    only: str = "all",
    limit: int | None = None,
) -> Iterator[Record]:
    """Records in the order of the file: the newest `limit` of those that fit, or all of them, one by one.

    `only` is a key of ONLY.  What was sampled again after a resume counts once, as on the curve.
    DataError where there is no such file, or where a line is no record; a torn one is skipped.
    """
    path = run.stage_dir(stage) / "rollouts.jsonl"
    if not path.is_file():
        raise DataError(
            f"no rollouts in {path}; expected those of a stage of kind rl; run it, or name another --stage"
        )
    records = (
        r
        for r in _standing(path)
        if step in (None, r["step"]) and family in (None, r.get("family")) and ONLY[only](r)
    )
    return records if limit is None else iter(deque(records, max(limit, 0)))


@dataclass(frozen=True)
class Line:
    """A line of the file: its record, also as bytes, and whether a torn one stands before it in the line."""

    number: int
    data: bytes
    record: Record
    torn: bool


def _standing(path: Path) -> Iterator[Record]:
    """What was not sampled again: a step begins again where its number or its first line comes back."""
    began = {}  # step -> the line from which on its records count
    last_step, last_group, first = 0, None, b""
    for line in _lines(path):
        step, group = line.record["step"], line.record.get("group")
        returns = line.data == first and last_group and not group
        if step < last_step or (step == last_step and (line.torn or returns)):
            for later in began:
                if later >= step:
                    began[later] = line.number
        if step != last_step or line.torn:
            first = line.data
        began.setdefault(step, line.number)
        last_step, last_group = step, group
    for line in _lines(path):
        if line.number >= began.get(line.record["step"], 0):
            yield line.record


def _lines(path: Path) -> Iterator[Line]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            start = max(line.rfind(FIRST), 0)
            record = _parsed(line[start:])
            if record is not None:
                yield Line(number, line[start:], record, start > 0)
            elif line.endswith(b"\n"):
                raise DataError(
                    f"{path}, line {number} is no rollout (found {line[:60]!r}); "
                    "expected a JSON object with a step; "
                    "the file was damaged from outside: restore it, or delete that line"
                )
            else:  # it is being written, or never will be
                return


def _parsed(line: bytes) -> Record | None:
    """The record in a line; None where it has no number of a step."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    step = record.get("step") if isinstance(record, dict) else None
    return record if isinstance(step, int | float) else None


def cut(text: object, width: int) -> str:
    """The visible text in one line of at most `width` characters."""
    text = visible(text, "")
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def parted(reply: str) -> tuple[str | None, str]:
    """(thinking, answer): None where nothing was thought, '' where the thinking never ended."""
    thinking, closed, answer = reply.rpartition("</think>")
    if closed:
        return thinking.removeprefix("<think>"), answer
    if reply.startswith("<think>"):
        return reply.removeprefix("<think>"), ""
    return None, reply


def show(records: Iterable[Record], width: int = 100) -> str:
    """Readable blocks: where each comes from and what it got, the prompt, the chain, the answer."""
    return "\n\n".join(_block(r, width) for r in records) or "no such rollouts"


def _block(record: Record, width: int) -> str:
    chain, answer = parted(record.get("reply") or "")
    texts = {"prompt": record.get("prompt"), "chain": chain, "answer": answer or "–"}
    if record.get("answer") not in (None, answer.strip()):
        texts["judged"] = record["answer"]
    texts |= {"wanted": record.get("expected"), "rule": record.get("rule")}
    lines = [_head(record)]
    for name, text in texts.items():
        if text:
            pieces = _wrapped(text, max(width - 10, 20))
            lines += [
                f"  {label:<6}  {piece}".rstrip() for label, piece in zip([name, *[""] * len(pieces)], pieces)
            ]
    return "\n".join(lines)


def _head(record: Record) -> str:
    """Where a rollout comes from, and what it got."""
    sign = "?" if record.get("undecided") else "✓" if record.get("strict") else "✗"
    place = f"{visible(record.get('family'), '')}/{visible(record.get('level'), '')}"
    notes = {
        "doubted": record.get("shadow"),
        "undecided": record.get("undecided"),
        "cut off": record.get("stop") == "length",
        "right in another form": record.get("lenient") and not record.get("strict"),
    }
    said = [
        f"{sign} step {_number(record, 'step')}",
        place,
        f"group {_number(record, 'group')}: reward {_number(record, 'reward', '.3g')}",
        f"{_number(record, 'length')} tokens",
        f"mean logp {_number(record, 'logp', '.3f')}",
        *(note for note, holds in notes.items() if holds),
    ]
    return ", ".join(said)


def _number(record: Record, key: str, form: str = "") -> str:
    return format(record[key], form) if isinstance(record.get(key), int | float) else "–"


def _wrapped(text: str, width: int) -> list[str]:
    pieces = []
    for line in visible(text, "\n").strip("\n").split("\n"):
        pieces += textwrap.wrap(line, width, drop_whitespace=False) or [""]
    return pieces
