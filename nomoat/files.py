"""Files read with an error, written whole, and text that is safe to show.  No torch here."""

import json
import os
import tomllib
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from nomoat.config import JsonObject, UserError

PROSE = "\n\t\u00ad\u200c\u200d"  # line ends, soft hyphen and the two that scripts and emoji are joined with


@cache
def shipped(file: str, name: str | None = None) -> JsonObject:
    """The TOML that ships beside a module (its `__file__`): `name`, or the module's own name in .toml."""
    path = Path(file)
    return tomllib.loads((path.with_name(name) if name else path.with_suffix(".toml")).read_text("utf-8"))


def read_json(path: Path, error: type[UserError], expected: str, cure: str) -> JsonObject:
    """The JSON object in a file; `error` where there is no such file, or something else in it."""
    try:
        table = json.loads(path.read_text("utf-8"))
    except OSError:
        raise error(f"no {path}; expected {expected}") from None
    except (ValueError, RecursionError) as wrong:
        raise error(f"{path} is not JSON: {wrong}; {cure}") from None
    if not isinstance(table, dict):
        raise error(f"{path} holds a {type(table).__name__}; expected a JSON object; {cure}")
    return table


def write_whole(path: Path, data: str | bytes | Iterable[bytes | memoryview]) -> None:
    """The file is there whole or not at all, also after a power cut; `data` may come piece by piece."""
    pieces = [data.encode()] if isinstance(data, str) else [data] if isinstance(data, bytes) else data
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    parent = os.open(path.parent, os.O_RDONLY)
    os.fsync(parent)
    os.close(parent)


def visible(text: object, keep: str = PROSE) -> str:
    """The text with what could steer a terminal or hide in it spelled out (ESC is `\\x1b`), but for `keep`.
    """

    def harmless(c: str) -> bool:
        return c in keep or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")

    return "".join(c if harmless(c) else ascii(c)[1:-1] for c in str(text))
