"""Where documents come from: the text that ships, the user's files, or any data set of a hub.

Everything is an iterator of `Document`, and everything that can be wrong with a file is a `DataError` that
says what was found, what was expected and what to do.  Nothing here knows tokens.
"""

import itertools
import json
import lzma
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from nomoat.config import DataError

LONGEST_LINE_BYTES = 64 * 2**20
DOCUMENT_BYTES = 2**20  # a plain text without form feeds is cut at the first line end after this much


@dataclass(frozen=True)
class Document:
    """One text, its language if known ("en" or "de"), and where it came from."""

    text: str
    lang: str | None
    source: str


def shipped(split: Literal["train", "heldout"]) -> Iterator[Document]:
    """The documents that ship with the package; DATA.md says what they are and how the two sides were parted.
    """
    folder = resources.files("nomoat.data") / "corpus"
    files = sorted((f for f in folder.iterdir() if f.name.startswith(f"{split}.")), key=lambda f: f.name)
    if not files:
        raise DataError(
            f"the installed package has no {split} text; reinstall it or run scripts/build_corpus.py"
        )
    for file in files:
        lang = file.name.split(".")[1]
        text = lzma.decompress(file.read_bytes()).decode("utf-8")
        for part in text.split("\f")[1:]:
            source, _, body = part.partition("\n")
            yield Document(body.rstrip("\n"), lang, source)


def from_path(path: str | Path) -> Iterator[Document]:
    """The documents in a .txt, .jsonl or .parquet file, or in all such files of a folder, in the order of
    their names.

    A .txt file is one document, or several parted by form feeds.  A .jsonl line or .parquet row has a "text",
    or the "messages" of a conversation, whose contents are joined; its "lang" is kept if it is "en" or "de".
    """
    path = Path(path)
    if path.is_dir():
        texts = [file for file in path.rglob("*") if file.suffix in READERS and file.is_file()]
        files = sorted(f for f in texts if not any(p.startswith(".") for p in f.relative_to(path).parts))
        if not files:
            raise DataError(f"no text in the folder {path}; expected files that end in {', '.join(READERS)}")
    elif path.is_file():
        if path.suffix not in READERS:
            raise DataError(
                f"{path} ends in `{path.suffix}`; expected {', '.join(READERS)}: convert or rename it"
            )
        files = [path]
    else:
        raise DataError(f"nothing at {path}; expected a text file or a folder of them: check the path")
    for file in files:
        documents = (document for document in READERS[file.suffix](file) if document.text.strip())
        first = next(documents, None)
        if first is None:
            raise DataError(f"{file} is empty; expected at least one document: fill or remove it")
        yield from itertools.chain([first], documents)


def from_hub(name: str, split: str = "train") -> Iterator[Document]:
    """The documents of a data set, streamed: a name on the Hugging Face hub, or a local folder of data files.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(
            "data sets of a hub need the package `datasets`; run `pip install nomoat[hub]`"
        ) from None
    try:
        rows = iter(datasets.load_dataset(name, split=split, streaming=True))
        first = next(rows, None)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"data set `{name}`, split `{split}`, cannot be read: {error}; check the name, the split and "
            "the network, or name a local folder"
        ) from None
    if first is None:
        raise DataError(f"data set `{name}`, split `{split}`, is empty; choose another split")
    for n, row in enumerate(itertools.chain([first], rows)):
        yield _row(row, f"data set `{name}`, row {n}", name)


def _row(row: Any, where: str, source: str) -> Document:
    """A row of a table as a document."""
    expected = (
        'expected {"text": "..."} or {"messages": [{"role": "...", "content": "..."}, ...]}: mend or drop it'
    )
    if not isinstance(row, dict):
        raise DataError(f"{where} is a {type(row).__name__}; {expected}")
    if isinstance(row.get("text"), str):
        text = row["text"]
    elif isinstance(row.get("messages"), list):
        contents = [m.get("content") if isinstance(m, dict) else None for m in row["messages"]]
        if not all(isinstance(content, str) for content in contents):
            raise DataError(f"{where} has a message without a text as its content; {expected}")
        text = "\n\n".join(contents)
    else:
        raise DataError(f"{where} has the keys {sorted(row)}, none of them a text; {expected}")
    return Document(text, row["lang"] if row.get("lang") in ("en", "de") else None, source)


def _lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file; binary, wrongly encoded and endless lines are refused."""
    with path.open("rb") as file:
        head = file.read(2**16)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path} is UTF-16; expected UTF-8: convert it with `iconv -f utf-16 -t utf-8`")
        if b"\0" in head:
            raise DataError(
                f"{path} is binary (a zero byte at offset {head.index(0)}); expected UTF-8 text: "
                "extract its text first"
            )
        offset = file.seek(len(BOM_UTF8) if head.startswith(BOM_UTF8) else 0)
        while line := file.readline(LONGEST_LINE_BYTES + 1):
            if len(line) > LONGEST_LINE_BYTES:
                raise DataError(
                    f"{path} has a line longer than {LONGEST_LINE_BYTES // 2**20} MB at byte {offset}; "
                    "expected lines: break it up"
                )
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path} is not UTF-8: byte 0x{line[error.start]:02x} at offset {offset + error.start}; "
                    "convert it, for example with `iconv -f latin1 -t utf-8`"
                ) from None
            offset += len(line)


def _text(path: Path) -> Iterator[Document]:
    part, n_bytes = [], 0
    for line in _lines(path):
        for n, piece in enumerate(line.split("\f")):
            if n or n_bytes > DOCUMENT_BYTES:
                yield Document("".join(part).strip("\r\n"), None, path.name)
                part, n_bytes = [], 0
            part.append(piece)
            n_bytes += len(piece)
    yield Document("".join(part).strip("\r\n"), None, path.name)


def _jsonl(path: Path) -> Iterator[Document]:
    for n, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}:{n} is not JSON ({error.msg} at column {error.colno}); expected one object a "
                "line: mend or drop the line"
            ) from None
        yield _row(row, f"{path}:{n}", path.name)


def _parquet(path: Path) -> Iterator[Document]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path} needs the package `pyarrow`; run `pip install nomoat[parquet]`") from None
    if path.stat().st_size == 0:
        return
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            columns = [c for c in ("text", "messages", "lang") if c in table.schema_arrow.names]
            if not {"text", "messages"} & set(columns):
                raise DataError(
                    f"{path} has the columns {table.schema_arrow.names}; expected one named `text` or "
                    "`messages`: rename yours"
                )
            batches = table.iter_batches(batch_size=1024, columns=columns)
            rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
            for n, row in enumerate(rows, 1):
                yield _row(row, f"{path}, row {n}", path.name)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable parquet file ({error}); fetch or write it again") from None


READERS = {".txt": _text, ".jsonl": _jsonl, ".parquet": _parquet}
