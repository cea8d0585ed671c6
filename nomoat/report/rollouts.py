"""What the policy wrote and what it got for it: RUN/<stage>/rollouts.jsonl, one JSON object a line."""

import json
import textwrap
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nomoat.config import DataError
from nomoat.files import visible
from nomoat.run.directory import Run

FIRST = b'{"step":'  # how a record begins; inside one it can't stand, a quote in a text is escaped


def read(
    run: Run, stage: str, *, step: int | None = None, family: str | None = None, only: str = "all", limit: int | None = None
) -> Iterator[dict[str, Any]]:
    """Records in the order of the file: the newest `limit` of those that fit, or all of them, one by one.

    `only`: "right", "wrong" (without what nobody could judge) or "doubted".  What was sampled again after a resume counts
    once, as on the curve.
    DataError where there is no such file, or where a line is no record; a torn one is skipped.
    """
    path = run.stage_dir(stage) / "rollouts.jsonl"
    if not path.is_file():
        raise DataError(f"no rollouts in {path}; expected those of a stage of kind rl; run it, or name another --stage")
    named = lambda r: step in (None, r["step"]) and family in (None, r.get("family"))
    judged = {"right": lambda r: r.get("strict"), "doubted": lambda r: r.get("shadow"),
              "wrong": lambda r: not (r.get("strict") or r.get("undecided"))}.get(only, bool)  # fmt: skip
    found = (record for record in _standing(path) if named(record) and judged(record))
    return found if limit is None else iter(deque(found, max(limit, 0)))


def _standing(path: Path) -> Iterator[dict[str, Any]]:
    """The records that were not sampled again: a step begins again where its number or its first line comes back."""
    began: dict[int, int] = {}  # step -> the line from which on its records count
    step, group, first = 0, None, b""
    for number, line, record, torn in _lines(path):
        at, returns = record["step"], line == first and group and not record.get("group")
        if at < step or (at == step and (torn or returns)):
            began.update({later: number for later in began if later >= at})
        if at != step or torn:
            first = line
        began.setdefault(at, number)
        step, group = at, record.get("group")
    yield from (record for number, _, record, _ in _lines(path) if number >= began.get(record["step"], 0))


def _lines(path: Path) -> Iterator[tuple[int, bytes, dict[str, Any], bool]]:
    """(number, record as bytes, record, whether a torn one stands before it in its line)."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            start = max(line.rfind(FIRST), 0)
            try:
                record = json.loads(line[start:])
                record["step"] + 0
            except (ValueError, TypeError, KeyError):
                if not line.endswith(b"\n"):  # it is being written, or never will be
                    return
                raise DataError(
                    f"{path}, line {number} is no rollout (found {line[:60]!r}); expected a JSON object with a step; "
                    "the file was damaged from outside: restore it, or delete that line"
                ) from None
            yield number, line[start:], record, start > 0


def cut(text: object, width: int) -> str:
    """The visible text in one line of at most `width` characters."""
    text = visible(text, "")
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def parted(reply: str) -> tuple[str | None, str]:
    """(thinking, answer): None where nothing was thought, '' where the thinking never ended."""
    thinking, closed, answer = reply.rpartition("</think>")
    if not closed and answer.startswith("<think>"):
        thinking, closed, answer = answer, "never", ""
    return (thinking.removeprefix("<think>") if closed else None), answer


def show(records: Iterable[Mapping[str, Any]], width: int = 100) -> str:
    """Readable blocks: where each comes from and what it got, the prompt, the chain, the answer."""
    return "\n\n".join(_block(r, width) for r in records) or "no such rollouts"


def _block(r: Mapping[str, Any], width: int) -> str:
    number = lambda key, form: format(r[key], form) if isinstance(r.get(key), int | float) else "–"
    chain, answer = parted(r.get("reply") or "")
    sign = "?" if r.get("undecided") else "✓" if r.get("strict") else "✗"
    head = f"{sign} step {number('step', '')}, {visible(r.get('family'), '')}/{visible(r.get('level'), '')}, group "
    head += f"{number('group', '')}: reward {number('reward', '.3g')}, {number('length', '')} tokens, "
    head += f"mean logp {number('logp', '.3f')}"
    notes = {"doubted": r.get("shadow"), "undecided": r.get("undecided"), "cut off": r.get("stop") == "length",
             "right in another form": r.get("lenient") and not r.get("strict")}  # fmt: skip
    body = {"prompt": r.get("prompt"), "chain": chain, "answer": answer or "–"}
    body |= {"judged": r["answer"]} if r.get("answer") not in (None, answer.strip()) else {}
    lines = [", ".join([head, *(note for note, holds in notes.items() if holds)])]
    for name, text in body.items():
        pieces = [p for line in visible(text or "", "\n").strip("\n").split("\n")
                  for p in textwrap.wrap(line, max(width - 10, 20), drop_whitespace=False) or [""]]  # fmt: skip
        lines += [f"  {name if i == 0 else '':<6}  {piece}".rstrip() for i, piece in enumerate(pieces) if text]
    return "\n".join(lines)
