"""Files of text, row by row: .txt, .jsonl, also packed by gzip or zstd, and .parquet.

A reader gives the `Document`s of a `Span`: a file, or the part of it that begins in a range of bytes, so that
a large file can be shared out.  What can't be read is a `DataError` with its place; who notes bad rows
may go on behind them (`Rows`).
"""

import contextlib
import gzip
import io
import itertools
import json
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nomoat.config import DataError
from nomoat.data import calls, talks
from nomoat.data.messages import conversation
from nomoat.tokenizer.layout import Message, Tools

LANGUAGES = ("en", "de")
LONGEST_LINE_BYTES = 64 * 2**20
# A plain text without form feeds is cut at the first line end, or blank of a longer line, after this much.
DOCUMENT_BYTES = 2**20
PYARROW = "needs the package `pyarrow`; run `pip install nomoat[parquet]`"


@dataclass(frozen=True)
class Document:
    """One text, its language if known ("en" or "de"), where it came from, and the turns of a conversation,
    with the tools that it tells of.
    """

    text: str
    lang: str | None
    source: str
    turns: tuple[Message, ...] | None = None
    tools: Tools | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes [start, end) of a file, None for its end: whole lines, texts of a .txt, or groups of rows."""

    path: Path
    start: int = 0
    end: int | None = None

    def place(self, n: int) -> str:
        """Row `n` of the span, for a person."""
        word = f", row {n}" if kind_of(self.path) == ".parquet" else f":{n}"
        return f"{self.path}, row {n} behind byte {self.start}" if self.start else f"{self.path}{word}"


class Rows:
    """How many rows were read of a span.  A bad one is an error here; others may count it, and go on."""

    def __init__(self) -> None:
        self.n = 0

    def bad(self, place: str, error: DataError) -> None:
        raise error


def kind_of(path: Path) -> str | None:
    """The ending by which a file's reader is known, if it has one of those."""
    name = path.name.lower()
    return next((ending for ending in READERS if name.endswith(ending)), None)


def read(span: Span, column: str | None = None, rows: Rows | None = None) -> Iterator[Document]:
    """The documents of a span that say something; `column` holds the texts or messages, by default the one
    that is called so.
    """
    try:
        for document in READERS[kind_of(span.path)](span, column, rows or Rows()):
            if document.text.strip():
                yield document
    except OSError as error:
        found = f"{span.path} cannot be read ({error.strerror})"
        raise DataError(f"{found}; make it readable, or fetch it again") from None


# --- rows ---


def document_of(row: Any, where: str, source: str) -> Document:
    """A row of a table as a document."""
    expected = (
        'expected {"text": "..."}, {"messages": [{"role": "...", "content": "..."}, ...]}, '
        '{"prompt": "...", "completion": "..."} or {"conversations": [{"from": "...", "value": "..."}, '
        "...]}: mend or drop it"
    )
    if not isinstance(row, dict):
        raise DataError(f"{where} is a {type(row).__name__}; {expected}")
    row = talks.with_messages(row, where)
    turns = tools = None
    if isinstance(row.get("text"), str) and row.get("messages"):
        raise DataError(f"{where} has a `text` and `messages`; expected one of them: drop the other")
    if isinstance(row.get("text"), str):
        text = row["text"]
    elif isinstance(row.get("messages"), list):
        tools = calls.tools_in(row, where)
        turns = conversation(row["messages"], where)
        text = "\n\n".join(part for part in calls.parts(turns, tools) if part)
    else:
        raise DataError(f"{where} has the keys {sorted(row)}, none of them a text; {expected}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where} has half a surrogate pair; expected whole characters: mend it") from None
    return Document(text, row["lang"] if row.get("lang") in LANGUAGES else None, source, turns, tools)


# --- lines ---


def _lines(span: Span, rows: Rows, piece_bytes: int | None = None) -> Iterator[str]:
    """The lines of UTF-8 in a span; binary, wrongly encoded and endless lines are refused.

    With `piece_bytes` longer lines come in pieces, parted behind a blank where there is one.
    """
    path, limit = span.path, piece_bytes or LONGEST_LINE_BYTES + 1
    with _opened(path) as file:
        _check_head(path, file.peek(2**16)[: 2**16])
        offset = span.start
        if offset:
            file.seek(offset)
        elif file.peek(len(BOM_UTF8)).startswith(BOM_UTF8):
            offset = len(file.read(len(BOM_UTF8)))
        whole = span.end is None or path.suffix.lower() in PACKED  # whose bytes are not those of its text
        end = float("inf") if whole else span.end
        while offset < end and (line := file.readline(int(min(limit, end - offset)))):
            rows.n += 1
            if piece_bytes and len(line) == limit:
                line = _piece(line)
                file.seek(offset + len(line))
            if len(line) > LONGEST_LINE_BYTES:
                raise DataError(
                    f"{path} has a line longer than {LONGEST_LINE_BYTES // 2**20} MB at byte {offset}; "
                    "expected lines: break it up"
                )
            text = _decoded(line, path, offset, rows, span.place(rows.n))
            offset += len(line)
            yield text


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """A file to read, unpacked; what is packed wrongly is an error when it is read."""
    packed = path.suffix.lower()
    try:
        with _unpacked(path, packed) as file, io.BufferedReader(file, 2**17) as lines:
            yield lines
    except (EOFError, zlib.error, gzip.BadGzipFile, OSError) as error:
        if packed not in PACKED or getattr(error, "strerror", None):
            raise
        raise DataError(
            f"{path} can't be unpacked ({error}); expected a whole {packed} file: fetch or pack it again"
        ) from None


def _unpacked(path: Path, packed: str) -> BinaryIO:
    if packed == ".gz":
        return gzip.open(path)
    if packed == ".zst":
        try:
            import pyarrow
        except ImportError:
            raise DataError(f"{path} {PYARROW}, or unpack it") from None
        return pyarrow.input_stream(str(path), compression="zstd")
    return path.open("rb", buffering=0)


def _check_head(path: Path, head: bytes) -> None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path} is UTF-16; expected UTF-8: convert it with `iconv -f utf-16 -t utf-8`")
    if b"\0" in head:
        raise DataError(
            f"{path} is binary (a zero byte at offset {head.index(0)}); expected UTF-8 text: "
            "extract its text first"
        )


def _decoded(line: bytes, path: Path, offset: int, rows: Rows, place: str) -> str:
    """The text of a line; of a bad one that may be left out, nothing."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"{path} is not UTF-8: byte 0x{line[error.start]:02x} at offset {offset + error.start}"
        rows.bad(place, DataError(f"{found}; convert it, for example with `iconv -f latin1 -t utf-8`"))
    return ""


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


# --- readers ---


def _text(span: Span, column: str | None, rows: Rows) -> Iterator[Document]:
    name = span.path.name
    part, n_bytes = [], 0
    for line in _lines(span, Rows(), DOCUMENT_BYTES):
        rows.n += 1
        for n, piece in enumerate(line.split("\f")):
            if n or n_bytes >= DOCUMENT_BYTES:
                yield Document("".join(part).strip("\r\n"), None, name)
                part, n_bytes = [], 0
            part.append(piece)
            n_bytes += len(piece.encode())
    yield Document("".join(part).strip("\r\n"), None, name)


def _jsonl(span: Span, column: str | None, rows: Rows) -> Iterator[Document]:
    for line in _lines(span, rows):
        if not line.strip():
            continue
        where = span.place(rows.n)
        try:
            row = _parsed(line, where)
            row = talks.column_of(row, column, where) if column else row
            document = document_of(row, where, span.path.name)
        except DataError as error:
            rows.bad(where, error)
            continue
        yield document


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where} is not JSON ({error.msg} at column {error.colno}); expected one object a "
            "line: mend or drop the line"
        ) from None
    except (ValueError, RecursionError) as error:
        found = "nested too deeply" if isinstance(error, RecursionError) else str(error).partition(";")[0]
        raise DataError(
            f"{where} can't be read ({found}); expected one object a line: mend or drop the line"
        ) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; ValueError where a key is there twice.  Here: a text goes no detour."""
    row = {}
    for key, value in pairs:
        if key in row:
            raise ValueError(f"the key {key[:40]!r} is there twice")
        row[key] = value
    return row


def _parquet(span: Span, column: str | None, rows: Rows) -> Iterator[Document]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{span.path} {PYARROW}") from None
    if span.path.stat().st_size == 0:
        return
    try:
        with pyarrow.parquet.ParquetFile(span.path) as table:
            columns = _columns(table.schema_arrow.names, column, span.path)
            starts = group_starts(table.metadata)
            end = float("inf") if span.end is None else span.end
            groups = [n for n, start in enumerate(starts) if span.start <= start < end]
            batches = table.iter_batches(batch_size=64, columns=columns, row_groups=groups)
            for row in itertools.chain.from_iterable(batch.to_pylist() for batch in batches):
                rows.n += 1
                where = span.place(rows.n)
                row = talks.of_table(row)
                try:
                    row = talks.column_of(row, column, where) if column else row
                    document = document_of(row, where, span.path.name)
                except DataError as error:
                    rows.bad(where, error)
                    continue
                yield document
    except (pyarrow.ArrowException, OSError) as error:
        found = f"{span.path} is not a readable parquet file ({error})"
        raise DataError(f"{found}; fetch or write it again") from None


def _columns(names: list[str], column: str | None, path: Path) -> list[str]:
    """The columns of a table that are read."""
    beside = [name for name in names if talks.is_beside(name)]
    wanted = ("text", "lang", *talks.COLUMNS, *beside) if column is None else (column, "lang", *beside)
    columns = [name for name in dict.fromkeys(wanted) if name in names]
    if twice := [name for name in columns if names.count(name) > 1]:
        raise DataError(f"{path} has the column `{twice[0]}` twice; expected it once: drop one")
    if column is not None and column not in names:
        raise DataError(f"{path} has the columns {names}; expected one named `{column}`: choose another")
    if column is None and not {"text", "messages", "conversations", "completion"} & set(columns):
        raise DataError(
            f"{path} has the columns {names}; expected one named `text` or "
            "`messages`, `conversations`, or `prompt` and `completion`: rename yours, or read its "
            "folder with hub = {name, column}"
        )
    if column is None and "text" not in columns:
        talks.say_unread({}, names)
    return columns


def group_starts(metadata: Any) -> list[int]:
    """The byte at which each group of rows of a parquet file begins."""
    starts = []
    for n in range(metadata.num_row_groups):
        group = metadata.row_group(n)
        columns = [group.column(i) for i in range(group.num_columns)]
        starts.append(min(c.dictionary_page_offset or c.data_page_offset for c in columns))
    return starts


PACKED = (".gz", ".zst")
READERS = {
    ".txt": _text,
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".jsonl.zst": _jsonl,
    ".parquet": _parquet,
}
