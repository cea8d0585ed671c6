"""Where documents come from: the text that ships, the user's files, or any data set of a hub.

Everything is an iterator of `Document`, and everything that can be wrong with a file is a `DataError` that
says what was found, what was expected and what to do.  Nothing here knows tokens.
"""

import itertools
import json
import lzma
import warnings
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import model_serializer, model_validator

from nomoat.config import DataError, Strict
from nomoat.data import talks
from nomoat.data.messages import conversation
from nomoat.files import files_in, what_is
from nomoat.tokenizer.layout import Message

LANGUAGES = ("en", "de")
LONGEST_LINE_BYTES = 64 * 2**20
# A plain text without form feeds is cut at the first line end, or blank of a longer line, after this much.
DOCUMENT_BYTES = 2**20
MAX_BLANK = 100_000  # rows of a data set in a row without a text, which may have no end


@dataclass(frozen=True)
class Document:
    """One text, its language if known ("en" or "de"), where it came from, and the turns of a conversation."""

    text: str
    lang: str | None
    source: str
    turns: tuple[Message, ...] | None = None


class DataSet(Strict):
    """A name on the Hugging Face hub, or a local folder of data files; a name alone may stand for the table.

    `column` holds the texts or the messages, by default the one that is called so.
    """

    name: str
    config: str | None = None
    split: str = "train"
    column: str | None = None
    revision: str | None = None

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
    or a conversation (talks.py); its "lang" is kept if it is "en" or "de".
    """
    return itertools.chain.from_iterable(files(path))


def files(path: str | Path) -> list[Iterator[Document]]:
    """The same, file by file; what is no text file is refused at once."""
    path = Path(path)
    if path.is_dir():
        inside = files_in(path)
        chosen = [file for file in inside if file.suffix.lower() in READERS]
        if not chosen:
            raise DataError(f"no text in the folder {path}; expected files that end in {', '.join(READERS)}")
        if left := sorted({file.suffix or file.name for file in inside if file not in chosen}):
            warnings.warn(f"{path}: files in {', '.join(left[:9])} are not read; convert them", stacklevel=2)
    elif path.is_file():
        if path.suffix.lower() not in READERS:
            raise DataError(f"{path} ends in `{path.suffix}`; expected {', '.join(READERS)}: convert it")
        chosen = [path]
    else:
        raise DataError(f"{what_is(path)}; expected a text file or a folder of them: check the path")
    return [_written(file) for file in chosen]


def _written(file: Path) -> Iterator[Document]:
    """The documents of a file that says something."""
    empty = True
    try:
        for document in READERS[file.suffix.lower()](file):
            if document.text.strip():
                empty = False
                yield document
    except OSError as error:
        raise DataError(
            f"{file} cannot be read ({error.strerror}); make it readable, or fetch it again"
        ) from None
    if empty:
        raise DataError(f"{file} is empty; expected at least one document: fill or remove it")


def from_hub(asked: DataSet) -> Iterator[Document]:
    """The documents of a data set, streamed; DataError for one that can't be read."""
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
    n_read, empty, n_blank = 0, True, 0
    try:
        rows = datasets.load_dataset(
            asked.name, asked.config, split=asked.split, revision=asked.revision, streaming=True
        )
        for n, row in enumerate(rows):
            document = _row(_column(row, asked, n), f"{asked}, row {n}", asked.name)
            n_read = n + 1
            n_blank += 1
            if document.text.strip():
                empty, n_blank = False, 0
                yield document
            elif n_blank >= MAX_BLANK:
                raise DataError(
                    f"{asked}, row {n}: no text in {MAX_BLANK:,} rows; choose another split or column"
                )
    except (OSError, ValueError, RuntimeError, ImportError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{asked}, cannot be read behind {n_read} rows: {str(error)[:800]}; check name, config, split "
            "and network, or name a local folder"
        ) from None
    if empty:
        raise DataError(f"{asked}, has no text; choose another split or column")


def _column(row: Any, asked: DataSet, n: int) -> Any:
    """A row whose column of texts or messages is called so."""
    if asked.column is None:
        return row
    if asked.column not in row:
        raise DataError(
            f"{asked}, row {n} has the columns {sorted(row)}, none of them `{asked.column}`; choose one of "
            "those as its `column`"
        )
    text = row[asked.column]
    text = "" if text is None else text  # a row without a text is left out
    if not isinstance(text, str | list):
        raise DataError(
            f"{asked}, row {n} has a {type(text).__name__} in `{asked.column}`; expected a text or messages; "
            "choose another `column`"
        )
    return {"messages" if isinstance(text, list) else "text": text, "lang": row.get("lang")}


def _row(row: Any, where: str, source: str) -> Document:
    """A row of a table as a document."""
    expected = (
        'expected {"text": "..."}, {"messages": [{"role": "...", "content": "..."}, ...]}, '
        '{"prompt": "...", "completion": "..."} or {"conversations": [{"from": "...", "value": "..."}, '
        "...]}: mend or drop it"
    )
    if not isinstance(row, dict):
        raise DataError(f"{where} is a {type(row).__name__}; {expected}")
    row = talks.with_messages(row, where)
    turns = None
    if isinstance(row.get("text"), str) and row.get("messages"):
        raise DataError(f"{where} has a `text` and `messages`; expected one of them: drop the other")
    if isinstance(row.get("text"), str):
        text = row["text"]
    elif isinstance(row.get("messages"), list):
        if told := [key for key in ("tools", "functions") if row.get(key)]:
            expected = "which no layout of training tells; expected none: drop it"
            raise DataError(f"{where} has `{told[0]}`, {expected}")
        turns = conversation(row["messages"], where)
        text = "\n\n".join(part for turn in turns for part in (turn.thinking, turn.content) if part)
    else:
        raise DataError(f"{where} has the keys {sorted(row)}, none of them a text; {expected}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where} has half a surrogate pair; expected whole characters: mend it") from None
    return Document(text, row["lang"] if row.get("lang") in LANGUAGES else None, source, turns)


def _lines(path: Path, piece_bytes: int | None = None) -> Iterator[str]:
    """The lines of a UTF-8 file; binary, wrongly encoded and endless lines are refused.

    With `piece_bytes` longer lines come in pieces, parted behind a blank where there is one.
    """
    limit = piece_bytes or LONGEST_LINE_BYTES + 1
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
        while line := file.readline(limit):
            if piece_bytes and len(line) == limit:
                line = _piece(line)
                file.seek(offset + len(line))
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


def _piece(line: bytes) -> bytes:
    """The begin of a line that goes on: up to behind its last blank, else to the last whole character."""
    if line.endswith(b"\n"):
        return line
    if blank := line.rfind(b" ") + 1:
        return line[:blank]
    end = len(line)
    while end > len(line) - 4 and line[end - 1] & 0xC0 == 0x80:
        end -= 1
    whole = line[: end - 1]
    return whole if line[end - 1] >= 0xC0 and whole else line


def _text(path: Path) -> Iterator[Document]:
    part, n_bytes = [], 0
    for line in _lines(path, DOCUMENT_BYTES):
        for n, piece in enumerate(line.split("\f")):
            if n or n_bytes >= DOCUMENT_BYTES:
                yield Document("".join(part).strip("\r\n"), None, path.name)
                part, n_bytes = [], 0
            part.append(piece)
            n_bytes += len(piece.encode())
    yield Document("".join(part).strip("\r\n"), None, path.name)


def _jsonl(path: Path) -> Iterator[Document]:
    for n, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_once)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}:{n} is not JSON ({error.msg} at column {error.colno}); expected one object a "
                "line: mend or drop the line"
            ) from None
        except (ValueError, RecursionError) as error:
            found = "nested too deeply" if isinstance(error, RecursionError) else str(error).partition(";")[0]
            raise DataError(
                f"{path}:{n} can't be read ({found}); expected one object a line: mend or drop the line"
            ) from None
        yield _row(row, f"{path}:{n}", path.name)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; ValueError where a key is there twice.  Here: a text goes no detour."""
    row = {}
    for key, value in pairs:
        if key in row:
            raise ValueError(f"the key {key[:40]!r} is there twice")
        row[key] = value
    return row


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
            names = table.schema_arrow.names
            columns = [c for c in ("text", "lang", *talks.COLUMNS) if c in names]
            if twice := [c for c in columns if names.count(c) > 1]:
                raise DataError(f"{path} has the column `{twice[0]}` twice; expected it once: drop one")
            if not {"text", "messages", "conversations", "completion"} & set(columns):
                raise DataError(
                    f"{path} has the columns {names}; expected one named `text` or "
                    "`messages`, `conversations`, or `prompt` and `completion`: rename yours, or read its "
                    "folder with hub = {name, column}"
                )
            batches = table.iter_batches(batch_size=64, columns=columns)
            rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
            for n, row in enumerate(rows, 1):
                yield _row(row, f"{path}, row {n}", path.name)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable parquet file ({error}); fetch or write it again") from None


READERS = {".txt": _text, ".jsonl": _jsonl, ".parquet": _parquet}
