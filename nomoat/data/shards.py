"""Token shards: what a tokenizer made of a source, on disk, memory-mapped.

A shard is a folder: tokens.bin (uint16, or uint32 where the vocabulary needs it), trained.bin (uint8: 1 where
the token is a target of the loss; left out where all are), offsets.bin (int64: document i is
tokens[offsets[i]:offsets[i + 1]]) and shard.json with the counts and a sha256 of each.  It is written beside
and renamed, so that a shard is whole or absent.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.config import DataError, JsonObject
from nomoat.files import new_directory, read_json
from nomoat.tokenizer.layout import Rendered

FORMAT = 2
FILES = ("tokens.bin", "trained.bin", "offsets.bin")
COUNTED = 2**14  # documents whose targets are counted at a time
IN_MEMORY = 2**24  # bytes of an array that need no file
MAPPED = 128  # files of a joined shard that are open at a time


@dataclass(frozen=True, slots=True)
class Shard:
    """Documents as tokens; arrays are read-only views of the files, or, of several shards, `Joined` ones."""

    tokens: "np.ndarray | Joined"
    trained: "np.ndarray | Joined"
    offsets: np.ndarray


class Joined:
    """Arrays in files, one behind the other, as one.  A slice that lies in one of them is a view of it."""

    def __init__(self, files: Sequence[Path], dtype: np.dtype, ends: np.ndarray) -> None:
        """`ends` (len(files) + 1): where each begins, and the last ends."""
        self.files, self.dtype, self.ends = files, dtype, ends
        self._mapped = lru_cache(MAPPED)(self._map)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, span: slice) -> np.ndarray:
        start, stop, _ = span.indices(len(self))
        parts = []
        number = int(np.searchsorted(self.ends, start, side="right")) - 1
        while start < stop:
            first = int(self.ends[number])
            inside = slice(start - first, stop - first)
            parts.append(self._mapped(number)[inside])
            number += 1
            start = int(self.ends[number])
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, self.dtype)

    def _map(self, number: int) -> np.ndarray:
        n_items = int(self.ends[number + 1] - self.ends[number])
        return _mapped(self.files[number], self.dtype, n_items)


def write(
    directory: str | Path,
    documents: Iterable[Rendered],
    vocab_size: int = 2**16,
    about: Mapping[str, Any] | None = None,
) -> Shard:
    """Write documents as a shard and open it; DataError where there is no space for them.

    `about` is what else shard.json says, taken behind the last document.  Without it, no documents are an
    error, too.
    """
    directory = Path(directory)
    dtype = np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)
    with new_directory(directory) as beside:
        _write(beside, directory, documents, dtype, about)
    return open(directory, check=False)


def _write(
    beside: Path,
    directory: Path,
    documents: Iterable[Rendered],
    dtype: np.dtype,
    about: Mapping[str, Any] | None,
) -> None:
    """The files of a shard."""
    offsets = [0]
    n_trained = 0
    with (beside / "tokens.bin").open("wb") as tokens, (beside / "trained.bin").open("wb") as trained:
        for document in documents:
            marks = bytes(document.trained)
            n_trained += marks.count(1)
            tokens.write(np.array(document.ids, dtype).tobytes())
            trained.write(marks)
            offsets.append(offsets[-1] + len(document.ids))
    if len(offsets) == 1 and about is None:
        raise DataError(f"no documents for the shard {directory}; expected at least one: check the source")
    (beside / "offsets.bin").write_bytes(np.array(offsets, np.int64).tobytes())
    names = [name for name in FILES if name != "trained.bin" or n_trained < offsets[-1]]
    if "trained.bin" not in names:
        (beside / "trained.bin").unlink()
    manifest = {
        "format": FORMAT,
        "dtype": dtype.name,
        "n_tokens": offsets[-1],
        "n_documents": len(offsets) - 1,
        "sha256": {name: _sha256(beside / name) for name in names},
        **(about or {}),
    }
    (beside / "shard.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")


def open(directory: str | Path, *, check: bool = True) -> Shard:
    """The shard in `directory`, its files checked against their recorded sha256, or else only their sizes."""
    directory = Path(directory)
    manifest = manifest_of(directory)
    for name, recorded in manifest["sha256"].items():
        path = directory / name
        if not path.is_file() or (check and _sha256(path) != recorded):
            raise DataError(
                f"{path} is damaged or missing (its sha256 is not the recorded one); write the shard again"
            )
    n_tokens, n_documents = manifest["n_tokens"], manifest["n_documents"]
    tokens = _mapped(directory / "tokens.bin", np.dtype(manifest["dtype"]), n_tokens)
    offsets = _mapped(directory / "offsets.bin", np.dtype(np.int64), n_documents + 1)
    return Shard(tokens, _trained(directory, manifest), offsets)


def join(directories: Sequence[Path]) -> Shard:
    """Several shards as one, only their sizes checked; where documents begin is copied, 8 bytes of each."""
    manifests = [manifest_of(directory) for directory in directories]
    dtype = np.dtype(manifests[0]["dtype"])
    lengths = [manifest["n_tokens"] for manifest in manifests]
    ends = np.cumsum([0, *lengths])
    offsets = _offsets(directories, manifests, ends)
    tokens = Joined([directory / "tokens.bin" for directory in directories], dtype, ends)
    trained = _ones(len(tokens))
    if any("trained.bin" in manifest["sha256"] for manifest in manifests):
        files = [directory / "trained.bin" for directory in directories]
        trained = Joined(files, np.dtype(np.uint8), ends)
    return Shard(tokens, trained, offsets)


def _offsets(directories: Sequence[Path], manifests: Sequence[JsonObject], ends: np.ndarray) -> np.ndarray:
    """Where the documents of all shards begin, and the last ends; `ends` as in `Joined`."""
    lengths = [manifest["n_documents"] for manifest in manifests]
    places = np.cumsum([1, *lengths])
    offsets = blank(int(places[-1]), np.dtype(np.int64))
    offsets[0] = 0
    for number, directory in enumerate(directories):
        shard = open(directory, check=False)
        first, end = places[number : number + 2]
        behind = shard.offsets[1:]
        np.add(behind, ends[number], out=offsets[first:end])
    return offsets


def blank(n: int, dtype: np.dtype) -> np.ndarray:
    """An array to be filled; a large one in a file without a name, whose pages need not stay in memory."""
    n_bytes = n * dtype.itemsize
    if n_bytes <= IN_MEMORY:
        return np.empty(n, dtype)
    with tempfile.TemporaryFile(prefix="nomoat-") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            else:
                file.truncate(n_bytes)
        except OSError as error:
            raise DataError(
                f"no {n_bytes:,} bytes in {tempfile.gettempdir()} to pack documents ({error.strerror}); free "
                "some, or name another place with TMPDIR"
            ) from None
        return np.asarray(np.memmap(file, dtype, "r+", shape=(n,)))


def manifest_of(directory: Path) -> JsonObject:
    """The shard.json of a shard."""
    cure = "expected a folder that `shards.write` made: write it again"
    manifest = read_json(directory / "shard.json", DataError, f"{directory} to be a token shard", cure)
    needed = ("format", "dtype", "n_tokens", "n_documents", "sha256")
    if missing := [key for key in needed if key not in manifest]:
        raise DataError(f"{directory} is no token shard (no `{missing[0]}`); {cure}")
    if not 1 <= manifest["format"] <= FORMAT:
        raise DataError(
            f"{directory} has shard format {manifest['format']}, expected 1 to {FORMAT}: write it again"
        )
    return manifest


def _mapped(path: Path, dtype: np.dtype, n_items: int) -> np.ndarray:
    """A file as an array, mapped and not read; of a `trained.bin` that is left out, ones."""
    if not path.exists() and path.name == "trained.bin":
        return _ones(n_items)
    n_bytes = path.stat().st_size if path.is_file() else -1
    if n_bytes != n_items * dtype.itemsize:
        raise DataError(
            f"{path} is damaged or missing ({n_bytes:,} bytes, expected {n_items * dtype.itemsize:,}); "
            "write the shard again"
        )
    return np.asarray(np.memmap(path, dtype, "r")) if n_items else np.empty(0, dtype)


def _trained(directory: Path, manifest: JsonObject) -> np.ndarray:
    return _mapped(directory / "trained.bin", np.dtype(np.uint8), manifest["n_tokens"])


def _ones(n: int) -> np.ndarray:
    """So many ones in one byte."""
    return np.broadcast_to(np.ones(1, np.uint8), n)


def conversations_cut(
    offsets: np.ndarray, trained: "np.ndarray | Joined", context: int
) -> tuple[int, int, int]:
    """(documents with tokens that aren't targets that are longer than `context`; those of them whose first
    target lies behind it; documents without a target).
    """
    if isinstance(trained, np.ndarray) and trained.strides == (0,):
        return 0, 0, 0
    n_cut = n_late = n_mute = 0
    for first in range(0, len(offsets) - 1, COUNTED):
        part = offsets[first : first + COUNTED + 1]
        summed = np.cumsum(trained[int(part[0]) : int(part[-1])], dtype=np.int64)
        before = np.concatenate([[0], summed])
        n_trained = np.diff(before[part - part[0]])
        lengths = np.diff(part)
        starts = part[:-1] - part[0]
        row_ends = starts + np.minimum(context, lengths)
        within = before[row_ends] - before[starts]
        n_cut += int(((n_trained < lengths) & (lengths > context)).sum())
        n_late += int(((within == 0) & (n_trained > 0)).sum())
        n_mute += int((n_trained == 0).sum())
    return n_cut, n_late, n_mute


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
