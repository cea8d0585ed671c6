"""Token shards: what a tokenizer made of a source, on disk, memory-mapped.

A shard is a folder: tokens.bin (uint16, or uint32 where the vocabulary needs it), trained.bin (uint8: 1 where
the token is a target of the loss), offsets.bin (int64: document i is tokens[offsets[i]:offsets[i + 1]]) and
shard.json with the counts and a sha256 of each.  It is written beside and renamed, so that a shard is whole
or absent.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nomoat.config import DataError
from nomoat.files import new_directory
from nomoat.tokenizer.layout import Rendered

FORMAT = 1
FILES = ("tokens.bin", "trained.bin", "offsets.bin")


@dataclass(frozen=True, slots=True)
class Shard:
    """Documents as tokens; arrays are read-only views of the files."""

    tokens: np.ndarray
    trained: np.ndarray
    offsets: np.ndarray


def write(directory: str | Path, documents: Iterable[Rendered], vocab_size: int = 2**16) -> Shard:
    """Write documents as a shard and open it; DataError where there are none, or no space for them."""
    directory = Path(directory)
    dtype = np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)
    with new_directory(directory) as beside:
        _write(beside, directory, documents, dtype)
    return open(directory)


def _write(beside: Path, directory: Path, documents: Iterable[Rendered], dtype: np.dtype) -> None:
    """The files of a shard."""
    offsets = [0]
    with (beside / "tokens.bin").open("wb") as tokens, (beside / "trained.bin").open("wb") as trained:
        for document in documents:
            tokens.write(np.array(document.ids, dtype).tobytes())
            trained.write(np.array(document.trained, np.uint8).tobytes())
            offsets.append(offsets[-1] + len(document.ids))
    if len(offsets) == 1:
        raise DataError(f"no documents for the shard {directory}; expected at least one: check the source")
    (beside / "offsets.bin").write_bytes(np.array(offsets, np.int64).tobytes())
    manifest = {
        "format": FORMAT,
        "dtype": dtype.name,
        "n_tokens": offsets[-1],
        "n_documents": len(offsets) - 1,
        "sha256": {name: _sha256(beside / name) for name in FILES},
    }
    (beside / "shard.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")


def open(directory: str | Path) -> Shard:
    """The shard in `directory`, its files checked against their recorded sha256."""
    directory = Path(directory)
    try:
        manifest = json.loads((directory / "shard.json").read_text("utf-8"))
        recorded, dtype = manifest["sha256"], np.dtype(manifest["dtype"])
        format = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{directory} is no token shard ({error}); expected a folder that `shards.write` made: "
            "write it again"
        ) from None
    if format != FORMAT:
        raise DataError(f"{directory} has shard format {format}, expected {FORMAT}: write it again")
    for name in FILES:
        path = directory / name
        if not path.is_file() or _sha256(path) != recorded[name]:
            raise DataError(
                f"{path} is damaged or missing (its sha256 is not the recorded one); write the shard again"
            )
    tokens, trained, offsets = (
        np.asarray(np.memmap(directory / name, kind, "r"))  # mapped, not read
        for name, kind in zip(FILES, (dtype, np.uint8, np.int64))
    )
    return Shard(tokens, trained, offsets)


def conversations_cut(offsets: np.ndarray, trained: np.ndarray, context: int) -> tuple[int, int]:
    """(documents with tokens that aren't targets that are longer than `context`, documents without a target).
    """
    summed = np.cumsum(trained, dtype=np.int64)
    before = np.concatenate([[0], summed])
    n_trained = np.diff(before[offsets])
    lengths = np.diff(offsets)
    cut = (n_trained < lengths) & (lengths > context)
    return int(cut.sum()), int((n_trained == 0).sum())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
