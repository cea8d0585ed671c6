"""How the command line speaks: the result on stdout, everything else on stderr."""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from nomoat.report.table import Table


def result(text: object, *, at_once: bool = False) -> int:
    """What was asked for, on stdout; the exit code of a verb that is done."""
    print(text, flush=at_once)
    return 0


def aside(text: str) -> None:
    """What is not the result, on stderr."""
    print(text, file=sys.stderr)


def as_json(value: Any) -> int:
    """The result as one JSON document."""
    return result(json.dumps(value, indent=1, ensure_ascii=False, default=asdict))


def as_json_lines(records: Sequence[Any]) -> int:
    """The result as one JSON document a line."""
    for record in records:
        result(json.dumps(record))
    return 0


def tables(shown: "Iterable[Table]") -> int:
    """Each with an empty line behind it."""
    for table in shown:
        result(table.text(width()) + "\n")
    return 0


def width() -> int:
    """Columns of the terminal that reads stdout, or of a page."""
    return shutil.get_terminal_size((110, 24)).columns if sys.stdout.isatty() else 110


def paints() -> bool:
    """Whether stdout is a terminal that wants colour."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def speed() -> None:
    """One line where the engine can't be as fast as it could be: no C compiler made its step."""
    from nomoat.engine.native import build

    if build.library() is None:
        aside(
            "no C compiler that works (cc, gcc, clang or $CC): answers take 3 to 11 times as long as they "
            "could; install gcc"
        )


def progress() -> Console:
    """Where progress goes; plain in a pipe and under NO_COLOR."""
    plain = bool(os.environ.get("NO_COLOR")) or not sys.stderr.isatty()
    return Console(stderr=True, color_system=None if plain else "auto", no_color=plain)
