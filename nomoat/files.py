"""Files read with an error, written whole, and text that is safe to show.  No torch here."""

import contextlib
import errno
import json
import os
import shutil
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from nomoat.config import DataError, JsonObject, UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

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
    """The file is there whole or not at all, also after a power cut; `data` may come piece by piece.

    DataError where it cannot be written; see `writing`.
    """
    pieces = [data.encode()] if isinstance(data, str) else [data] if isinstance(data, bytes) else data
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path, len(pieces[0]) if isinstance(pieces, list) else None):
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


@contextlib.contextmanager
def writing(path: Path, n_bytes: int | None = None) -> Iterator[None]:
    """What goes wrong while `path` is written is a DataError: which file, how much, what to do."""
    try:
        yield
    except OSError as error:
        size = "" if n_bytes is None else f" of {n_bytes:,} bytes"
        if error.errno in FULL:
            raise DataError(
                f"no space for {path}{size}: {_free(path):,} bytes are free ({error.strerror}), and nothing "
                "is left half written; free some, or use another place, and run the same command again"
            ) from None
        raise DataError(
            f"cannot write {path}{size} ({error.strerror}); expected a place that can be written; use another"
        ) from None


def _free(path: Path) -> int:
    """Bytes that are free where a file would be."""
    there = next(place for place in path.absolute().parents if place.exists())
    return shutil.disk_usage(there).free


def visible(text: object, keep: str = PROSE) -> str:
    """The text with what could steer a terminal or hide in it spelled out (ESC is `\\x1b`), but for `keep`.
    """

    def harmless(c: str) -> bool:
        return c in keep or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")

    return "".join(c if harmless(c) else ascii(c)[1:-1] for c in str(text))
