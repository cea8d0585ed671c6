"""What `nomoat data prepare` left, as training reads it: tokens that are mapped, never read whole."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from nomoat.config import DataError, JsonObject
from nomoat.data import shards
from nomoat.data.readers import Document
from nomoat.data.units import shard
from nomoat.files import read_json
from nomoat.tokenizer.bpe import Tokenizer

SHOWN_BYTES = 2**25  # of text that is spelled again at most


def holds(path: str | Path | None) -> bool:
    """Whether a path is such a directory, finished or not."""
    return path is not None and (Path(path) / "plan.json").is_file() and (Path(path) / "tokenizer").is_dir()


def manifest_of(directory: Path) -> JsonObject:
    """Its manifest; DataError for one that is not finished, or lacks a shard."""
    manifest = read_json(
        directory / "manifest.json",
        DataError,
        "what `nomoat data prepare` finished: run the same command again",
        "prepare it anew",
    )
    for number, recorded in enumerate(manifest["shards"]):
        place = shard(directory, number)
        if shards.manifest_of(place)["sha256"] != recorded["sha256"]:
            raise DataError(f"{place} is not what was prepared; remove it and manifest.json, prepare again")
    return manifest


def sha256(directory: str | Path) -> str:
    """Of the manifest, which has those of all shards."""
    return hashlib.sha256((Path(directory) / "manifest.json").read_bytes()).hexdigest()


def opened(directory: str | Path, tokenizer: Tokenizer, n_bytes: int | None = None) -> shards.Shard:
    """Its shards as one, or its first documents of about `n_bytes` of text; DataError where they were made
    with another tokenizer.
    """
    directory = Path(directory)
    manifest = manifest_of(directory)
    if manifest["tokenizer"] != tokenizer.fingerprint:
        raise DataError(
            f"{directory} was prepared with another tokenizer (found {manifest['tokenizer'][:12]}, expected "
            f"{tokenizer.fingerprint[:12]}, that of the run); prepare it with --tokenizer RUN"
        )
    joined = shards.join([shard(directory, number) for number in range(len(manifest["shards"]))])
    if n_bytes is None or n_bytes >= manifest["n_bytes"]:
        return joined
    n_tokens = n_bytes * manifest["n_tokens"] / manifest["n_bytes"]
    n_documents = max(int(np.searchsorted(joined.offsets, n_tokens)), 1)
    return replace(joined, offsets=joined.offsets[: n_documents + 1])


def texts(directory: str | Path) -> Iterator[Document]:
    """Its first documents spelled again, SHOWN_BYTES or a little more in all."""
    directory = Path(directory)
    manifest = manifest_of(directory)
    tokenizer = Tokenizer.load(directory / "tokenizer", manifest["tokenizer"])
    n_bytes = 0
    for number in range(len(manifest["shards"])):
        part = shards.open(shard(directory, number), check=False)
        for start, end in zip(part.offsets, part.offsets[1:]):
            text = tokenizer.decode(part.tokens[start:end].tolist())
            n_bytes += len(text.encode())
            yield Document(text, None, directory.name)
            if n_bytes >= SHOWN_BYTES:
                return


def check(directory: Path) -> JsonObject:
    """Its manifest, once all of its files are read and are what was written."""
    manifest = manifest_of(directory)
    for number in range(len(manifest["shards"])):
        shards.open(shard(directory, number))
    return manifest
