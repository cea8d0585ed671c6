"""docs/interop.md as rows: what other software does, with which version it was seen, which tests show it."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "interop.md"
NAMED = re.compile(r"`(tests/[^`]+::[^`]+)`")


@dataclass(frozen=True)
class Row:
    """One behaviour; `tests` are the names of tests as pytest spells them, none where it was seen by hand."""

    sentence: str
    seen_with: str
    tests: tuple[str, ...]


def rows_of(text: str) -> list[Row]:
    """The rows of all tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [line.strip("|").split(" | ") for line in lines]
    body = [row for row in cells if row[0].strip() not in ("what it does", "---")]
    return [Row(row[0].strip(), row[1].strip(), tuple(NAMED.findall(row[2]))) for row in body]


@functools.cache
def rows() -> list[Row]:
    return rows_of(PAGE.read_text())


def sentences_of(nodeid: str) -> list[str]:
    """What the page says with this test's name, or with the name of all its parameters."""
    names = {nodeid, nodeid.partition("[")[0]}
    return [f"{row.sentence} ({row.seen_with})" for row in rows() if names & {*row.tests}]
