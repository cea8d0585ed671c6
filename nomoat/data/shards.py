"""Token shards: what a tokenizer made of a source, on disk, memory-mapped.

A shard is a folder: tokens.bin (uint16, or uint32 where the vocabulary needs it), trained.bin (uint8: 1 where the
token is a target of the loss), offsets.bin (int64: document i is tokens[offsets[i]:offsets[i + 1]]) and shard.json
with the counts and a sha256 of each.  It is written beside and renamed, so that a shard is whole or absent.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nomoat.config import DataError

FORMAT = 1
FILES = ("tokens.bin", "trained.bin", "offsets.bin")


@dataclass(frozen=True)
class Shard:
    """Documents as tokens; arrays are read-only views of the files."""

    tokens: np.ndarray
    trained: np.ndarray
    offsets: np.ndarray


def write(
    directory: str | Path, documents: Iterable[tuple[Sequence[int], Sequence[bool] | None]], vocab_size: int = 2**16
) -> Shard:
    """Write (ids, trained) documents as a shard and open it; `trained` None means that every token is trained."""
    directory = Path(directory)
    kind = np.uint16 if vocab_size <= 2**16 else np.uint32
    beside = directory.with_name(directory.name + ".partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    offsets = [0]
    with (beside / "tokens.bin").open("wb") as token_file, (beside / "trained.bin").open("wb") as trained_file:
        for index, (ids, mask) in enumerate(documents):
            wide = np.asarray(ids, dtype=np.int64)
            if wide.size == 0:
                raise DataError(f"document {index} has no tokens; expected at least one: drop it before writing")
            if wide.min() < 0 or wide.max() >= vocab_size:
                raise DataError(f"document {index} has token {wide.max() if wide.min() >= 0 else wide.min()}; expected "
                                f"0 to {vocab_size - 1}: use the tokenizer of this vocabulary")
            marks = np.ones(len(wide), np.uint8) if mask is None else np.asarray(mask, np.uint8)
            if len(marks) != len(wide):
                raise DataError(f"document {index} has {len(wide)} tokens and {len(marks)} marks; expected one each")
            token_file.write(wide.astype(kind).tobytes())
            trained_file.write(marks.tobytes())
            offsets.append(offsets[-1] + len(wide))
    if len(offsets) == 1:
        shutil.rmtree(beside)
        raise DataError(f"no documents for the shard {directory}; expected at least one: check the source")
    (beside / "offsets.bin").write_bytes(np.array(offsets, np.int64).tobytes())
    manifest = {"format": FORMAT, "dtype": np.dtype(kind).name, "n_tokens": offsets[-1],
                "n_documents": len(offsets) - 1, "sha256": {name: _sha256(beside / name) for name in FILES}}
    (beside / "shard.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    for name in (*FILES, "shard.json"):
        with (beside / name).open("rb+") as file:
            os.fsync(file.fileno())
    shutil.rmtree(directory, ignore_errors=True)
    beside.rename(directory)
    return open(directory)


def open(directory: str | Path) -> Shard:
    """The shard in `directory`, its files checked against their recorded sha256."""
    directory = Path(directory)
    try:
        manifest = json.loads((directory / "shard.json").read_text("utf-8"))
        recorded, kind, n_documents = manifest["sha256"], np.dtype(manifest["dtype"]), manifest["n_documents"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{directory} is no token shard ({error}); expected a folder that `shards.write` made: "
                        "write it again") from None
    if manifest["format"] != FORMAT:
        raise DataError(f"{directory} has shard format {manifest['format']}, expected {FORMAT}: write it again")
    for name in FILES:
        path = directory / name
        if not path.is_file() or _sha256(path) != recorded[name]:
            raise DataError(f"{path} is damaged or missing (its sha256 is not the recorded one); write the shard again")
    view = lambda name, kind: np.asarray(np.memmap(directory / name, kind, "r"))  # mapped, not read
    offsets = view("offsets.bin", np.int64)
    if len(offsets) != n_documents + 1:
        raise DataError(f"{directory}: {len(offsets) - 1} documents, shard.json says {n_documents}: write it again")
    return Shard(view("tokens.bin", kind), view("trained.bin", np.uint8), offsets)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
