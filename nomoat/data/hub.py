"""Data sets of a hub, parted for a preparation: a unit takes whole files of theirs.

A name on the hub is pinned to the commit that it stood for when the units were cut, so that what goes on days
later, or elsewhere, reads the same files.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nomoat.config import Count, DataError, Strict
from nomoat.data.readers import Document, Rows
from nomoat.data.sources import DataSet, hub_rows, of_hub, stream

COMMIT = re.compile(r"^hf://datasets/[^@]+@([0-9a-f]{40})/")  # where the library says what it resolved


class Pinned(Strict):
    """A data set as it was asked for, the commit that it stood for (None: a folder), and of how many files.
    """

    asked: DataSet
    commit: str | None
    n_files: Count

    @property
    def exact(self) -> DataSet:
        revision = self.asked.revision if self.commit is None else self.commit
        return self.asked.model_copy(update={"revision": revision})


@dataclass(frozen=True, slots=True)
class File:
    """One file of a data set, the `number`-th of its `n_files`."""

    data_set: DataSet
    number: int
    n_files: int
    path: str

    def place(self, n: int) -> str:
        """Row `n`, for a person."""
        return f"{self.path}, row {n}"

    def read(self, column: str | None, rows: Rows) -> Iterator[Document]:
        """Its documents that say something; the data set's own column goes before `column`."""
        asked = by_default(self.data_set, column)
        for document in hub_rows(asked, rows, self.place, self._load):
            if document.text.strip():
                yield document

    def _load(self, datasets: Any, asked: DataSet) -> Any:
        whole = _streamed(asked.model_copy(update={"column": None}))
        return whole.shard(num_shards=self.n_files, index=self.number)


def by_default(asked: DataSet, column: str | None) -> DataSet:
    """The same, its texts in `column` where it names none."""
    return asked.model_copy(update={"column": asked.column or column})


@lru_cache(1)
def _streamed(asked: DataSet) -> Any:
    """A data set, looked up once for all files that a process reads of it."""
    import datasets

    return stream(datasets, asked)


def pinned(asked: DataSet, commit: str | None = None) -> tuple[Pinned, list[str]]:
    """A data set and the files that it has, at `commit` if that is known already."""
    exact = Pinned(asked=asked, commit=commit, n_files=1).exact
    with of_hub(exact, Rows()) as datasets:
        builder = datasets.load_dataset_builder(exact.name, exact.config, revision=exact.revision)
        files = dict(builder.config.data_files or {})
        if asked.split not in files:
            raise ValueError(f"Bad split: {asked.split}. Available splits: {sorted(map(str, files))}")
        paths = [str(path) for path in files[asked.split]]
        n_parts = stream(datasets, exact).n_shards
    if n_parts != len(paths):
        raise DataError(
            f"{asked} has {len(paths)} files that are read in {n_parts} parts; expected one a file: unpack "
            "them into a folder, and name that"
        )
    resolved = COMMIT.match(paths[0])
    found = resolved.group(1) if resolved else None
    return Pinned(asked=asked, commit=found, n_files=n_parts), paths


def size_and_time(path: str) -> tuple[int, int]:
    """Bytes of a file and when it was modified, in nanoseconds; 0 for what is not told, or is pinned."""
    if "://" not in path:
        stat = Path(path).stat()
        return stat.st_size, stat.st_mtime_ns
    from fsspec.core import url_to_fs

    place, inside = url_to_fs(path)
    return int(place.size(inside) or 0), 0
