"""Files read with an error, written whole, and text that is safe to show.  No torch here."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from nomoat.config import DataError, JsonObject, UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

PROSE = "\n\t\u00ad\u200c\u200d"  # line ends, soft hyphen and the two that scripts and emoji are joined with


@cache
def shipped(file: str, name: str | None = None) -> JsonObject:
    """The TOML that ships beside a module (its `__file__`): `name`, or the module's own name in .toml."""
    path = Path(file)
    return tomllib.loads((path.with_name(name) if name else path.with_suffix(".toml")).read_text("utf-8"))


def once(pairs: list[tuple[str, Any]]) -> JsonObject:
    """The object of these pairs, for json.loads; ValueError where a key is there twice."""
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:40]!r} is there twice")
    return row


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


def files_in(folder: Path) -> list[Path]:
    """The files in a folder and those below it, by name; none that is hidden, or in a hidden folder."""
    inside = sorted(file for file in folder.rglob("*") if file.is_file())
    return [f for f in inside if not any(part.startswith(".") for part in f.relative_to(folder).parts)]


def what_is(path: Path) -> str:
    """What stands at a path where a file was expected: nothing, a folder, a pipe, a device, a socket."""
    kinds = (("is a folder", Path.is_dir), ("is a pipe", Path.is_fifo), ("is a socket", Path.is_socket),
             ("is a device", Path.is_char_device), ("is a device", Path.is_block_device))  # fmt: skip
    found = next((kind for kind, holds in kinds if holds(path)), None)
    return f"{path} {found}" if found else f"nothing at {path}"


def user_cache() -> Path:
    """Where what can be made or fetched again is kept for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nomoat"


def write_whole(
    path: Path, data: str | bytes | Iterable[bytes | memoryview], n_bytes: int | None = None
) -> None:
    """The file is there whole or not at all, also after a power cut; `data` may come piece by piece, of
    `n_bytes` in all.

    DataError where it can't be written.
    """
    pieces = [data.encode()] if isinstance(data, str) else [data] if isinstance(data, bytes) else data
    if isinstance(pieces, list):
        n_bytes = sum(map(len, pieces))
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path, beside, n_bytes):
        with open(beside, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        parent = os.open(path.parent, os.O_RDONLY)
        os.fsync(parent)
        os.close(parent)


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory to write into, which takes the place of `path` at the end, or is gone if anything fails."""
    beside = path.with_name(path.name + ".partial")
    with writing(path, beside):
        _remove(beside)
        beside.mkdir(parents=True)
        yield beside
        for file in filter(Path.is_file, beside.rglob("*")):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        _remove(path)
        beside.rename(path)


@contextlib.contextmanager
def writing(path: Path, beside: Path | None = None, n_bytes: int | None = None) -> Iterator[None]:
    """While `path` is written: what fails is a DataError that says which file, how much and what to do.

    `beside` is what is written first, and gone if anything fails; `n_bytes` are to be written in all.
    """
    whole = False
    try:
        yield
        whole = True
    except OSError as error:
        raise DataError(_unwritten(path, beside, n_bytes, error)) from None
    finally:
        if beside is not None and not whole:
            _remove(beside)


def _unwritten(path: Path, beside: Path | None, n_bytes: int | None, error: OSError) -> str:
    if error.errno not in FULL:
        return (
            f"cannot write {path} ({error.strerror or error}); expected a place that you may write to; use "
            "another, or make it writable"
        )
    written = 0 if beside is None else _size(beside)
    there = next(place for place in path.absolute().parents if place.exists())
    room = shutil.disk_usage(there).free + written
    needs = f"more than {written:,}" if n_bytes is None else f"{n_bytes:,}"
    return (
        f"no space for {path} ({error.strerror}): it needs {needs} bytes, and there is room for {room:,}; "
        "nothing is left half written; free some, and run the same command again"
    )


def _size(path: Path) -> int:
    """Bytes of a file, or of all in a directory."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def visible(text: object, keep: str = PROSE) -> str:
    """The text with what could steer a terminal or hide in it spelled out (ESC is `\\x1b`), but for `keep`.
    """

    def harmless(c: str) -> bool:
        return c in keep or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")

    return "".join(c if harmless(c) else ascii(c)[1:-1] for c in str(text))


KEPT = ("config.json", "adapter_config.json", "tokenizer.json")  # beside the weights in a directory


def sha256(path: Path) -> str:
    """Of a file, or of the weights, configuration and tokenizer in a model's directory."""
    if path.is_dir():
        kept = (path / name for name in KEPT if (path / name).is_file())
        files = sorted([*path.glob("*.safetensors"), *kept])
        named = [f"{file.name} {sha256(file)}\n" for file in files]
        return hashlib.sha256("".join(named).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
