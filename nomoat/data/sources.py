"""Where documents come from: the text that ships, the user's files, or any data set of a hub.

Everything is an iterator of `Document`, and everything that can be wrong with a file is a `DataError` that
says what was found, what was expected and what to do.  Nothing here knows tokens.
"""

import contextlib
import itertools
import lzma
import warnings
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import model_serializer, model_validator

from nomoat.config import DataError, Strict, Word
from nomoat.data.readers import READERS, Document, Rows, Span, document_of, kind_of, read
from nomoat.data.talks import column_of, of_table
from nomoat.files import files_in, what_is

MAX_BLANK = 100_000  # rows of a data set in a row without a text, which may have no end


class DataSet(Strict):
    """A name on the Hugging Face hub, or a local folder of data files; a name alone may stand for the table.

    `column` holds the texts or the messages, by default the one that is called so.
    """

    name: Word
    config: Word | None = None
    split: Word = "train"
    column: Word | None = None
    revision: Word | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, table: Any) -> Any:
        return {"name": table} if isinstance(table, str) else table

    @model_serializer(mode="wrap")
    def _short(self, whole: Any) -> Any:
        table = whole(self)
        return self.name if self == DataSet(name=self.name) else table

    def __str__(self) -> str:
        config = f", configuration `{self.config}`" if self.config else ""
        column = f", column `{self.column}`" if self.column else ""
        return f"data set `{self.name}`{config}, split `{self.split}`{column}"


def shipped(split: Literal["train", "heldout"]) -> Iterator[Document]:
    """The documents that ship with the package; DATA.md says what they are and how the two sides were parted.
    """
    return itertools.chain.from_iterable(shipped_files(split))


def shipped_files(split: Literal["train", "heldout"]) -> list[Iterator[Document]]:
    """The same, language by language."""
    folder = resources.files("nomoat.data") / "corpus"
    files = sorted((f for f in folder.iterdir() if f.name.startswith(f"{split}.")), key=lambda f: f.name)
    if not files:
        raise DataError(
            f"the installed package has no {split} text; reinstall it or run scripts/build_corpus.py"
        )
    return [_shipped(file) for file in files]


def _shipped(file: Any) -> Iterator[Document]:
    lang, source, body = file.name.split(".")[1], None, []
    with file.open("rb") as packed, lzma.open(packed, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            if not line.startswith("\f"):
                body.append(line)
                continue
            if source is not None:
                yield Document("".join(body).rstrip("\n"), lang, source)
            source, body = line[1:].rstrip("\n"), []
    yield Document("".join(body).rstrip("\n"), lang, source)


def from_path(path: str | Path) -> Iterator[Document]:
    """The documents in a .txt, .jsonl or .parquet file, or in all such files of a folder, in the order of
    their names.

    A .txt file is one document, or several parted by form feeds.  A .jsonl line or .parquet row has a "text",
    or a conversation (talks.py); its "lang" is kept if it is "en" or "de".  A .jsonl may be packed.
    """
    return itertools.chain.from_iterable(files(path))


def files(path: str | Path) -> list[Iterator[Document]]:
    """The same, file by file; what is no text file is refused at once."""
    return [_written(file) for file in paths(path)]


def paths(path: str | Path) -> list[Path]:
    """A file of text, or those of a folder."""
    path = Path(path)
    if path.is_dir():
        inside = files_in(path)
        chosen = [file for file in inside if kind_of(file)]
        if not chosen:
            raise DataError(f"no text in the folder {path}; expected files that end in {', '.join(READERS)}")
        if left := sorted({file.suffix or file.name for file in inside if file not in chosen}):
            warnings.warn(f"{path}: files in {', '.join(left[:9])} are not read; convert them", stacklevel=3)
        return chosen
    if not path.is_file():
        raise DataError(f"{what_is(path)}; expected a text file or a folder of them: check the path")
    if not kind_of(path):
        raise DataError(f"{path} ends in `{path.suffix}`; expected {', '.join(READERS)}: convert it")
    return [path]


def _written(file: Path) -> Iterator[Document]:
    """The documents of a file that says something."""
    empty = True
    for document in read(Span(file)):
        empty = False
        yield document
    if empty:
        raise DataError(f"{file} is empty; expected at least one document: fill or remove it")


def from_hub(asked: DataSet) -> Iterator[Document]:
    """The documents of a data set, streamed; DataError for one that can't be read."""
    empty, n_blank = True, 0
    for n, document in enumerate(hub_rows(asked, Rows(), lambda n: f"{asked}, row {n - 1}")):
        n_blank += 1
        if document.text.strip():
            empty, n_blank = False, 0
            yield document
        elif n_blank >= MAX_BLANK:
            raise DataError(
                f"{asked}, row {n}: no text in {MAX_BLANK:,} rows; choose another split or column"
            )
    if empty:
        raise DataError(f"{asked}, has no text; choose another split or column")


def stream(datasets: Any, asked: DataSet) -> Any:
    """The rows of a data set, as its library reads them."""
    return datasets.load_dataset(
        asked.name, asked.config, split=asked.split, revision=asked.revision, streaming=True
    )


def hub_rows(
    asked: DataSet, rows: Rows, place: Callable[[int], str], load: Callable[[Any, DataSet], Any] = stream
) -> Iterator[Document]:
    """Every row of a data set as a document, blank ones too; `place` is what errors call the n-th, from 1."""
    with of_hub(asked, rows) as datasets:
        for row in load(datasets, asked):
            rows.n += 1
            where = place(rows.n)
            row = of_table(row)
            try:
                row = row if asked.column is None else column_of(row, asked.column, where)
                document = document_of(row, where, asked.name)
            except DataError as error:
                rows.bad(where, error)
                continue
            yield document


@contextlib.contextmanager
def of_hub(asked: DataSet, rows: Rows) -> Iterator[Any]:
    """The package that reads data sets; what it meets is a DataError."""
    try:
        import datasets
    except ImportError:
        raise DataError(
            "data sets of a hub need the package `datasets`; run `pip install nomoat[hub]`"
        ) from None
    if asked.revision is not None and Path(asked.name).exists():
        raise DataError(
            f"{asked} is a folder, beside revision = {asked.revision!r}; expected one on the hub: drop it"
        )
    try:
        yield datasets
    except (OSError, ValueError, RuntimeError, ImportError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{asked}, cannot be read behind {rows.n} rows: {str(error)[:800]}; check name, config, split "
            "and network, or name a local folder"
        ) from None
