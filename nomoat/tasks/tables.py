"""Files of problems as rows, each by its place: .jsonl, .json and .csv, in UTF-8, with or without its mark.

    mine.csv:question=q,answer=a    the column q is called question, a answer

What can't be is a TaskError with file and line, before anything is made of it.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nomoat.config import JsonObject, TaskError, nearest

SUFFIXES = (".jsonl", ".json", ".csv")
NAME = re.compile(r"(.+?\.(?:jsonl|json|csv))(?::(.*))?", re.DOTALL)
ROLES = ("system", "user", "assistant")
STRUCTURED = ("inputs", "outputs", "units", "messages")  # columns of a .csv that hold JSON
PARTS = ",;\t"  # what may stand between the columns


def parted(name: str) -> list[str]:
    """The path in the name of a task, and its options."""
    path, options = NAME.fullmatch(name).groups()
    return [path, *(options.split(":") if options else [])]


def read(path: str, options: Sequence[str] = ()) -> dict[str, JsonObject]:
    """The rows of a file by their place, their columns called as the options say; at least one."""
    text = _text(Path(path))
    rows = {}
    renamed = dict(_renamings(path, options))
    for place, row in READERS[Path(path).suffix](path, text):
        _checked(place, row)
        missing = [column for column in renamed.values() if column not in row]
        if missing:
            raise TaskError(f"{place} has no column {missing[0]!r}; {nearest(missing[0], list(row))}")
        taken = {new: row[old] for new, old in renamed.items()}
        rows[place] = {k: v for k, v in row.items() if k not in renamed.values()} | taken
    if rows:
        return rows
    raise TaskError(f"{path} is empty; expected a JSON object with question and answer a line; add some")


def _renamings(path: str, options: Sequence[str]) -> Iterator[tuple[str, str]]:
    for pair in (pair for option in options if "=" in option for pair in option.split(",")):
        new, equals, old = (part.strip() for part in pair.partition("="))
        if not (new and equals and old):
            raise TaskError(f"{path}: columns {pair!r}; expected such as question=q,answer=a; mend it")
        yield new, old


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror}; expected a file of problems; check the path") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        found = "UTF-16" if wide else f"the byte 0x{content[error.start]:02x}"
        expected = "expected a JSON object a line, in UTF-8"
        cure = "convert it, for example with `iconv -t utf-8`"
        raise TaskError(f"{path}, line {line}: {found}; {expected}; {cure}") from None


def loads(text: str, place: str, expected: str) -> Any:
    """The JSON value in a text; TaskError for what is none, nested too deeply, or a number too long."""
    try:
        return json.loads(text)
    except RecursionError:
        raise TaskError(f"{place}: nested too deeply; expected {expected}; mend it") from None
    except ValueError as error:
        raise TaskError(f"{place}: {error}; expected {expected}; mend it") from None


def _lines(path: str, text: str) -> Iterator[tuple[str, JsonObject]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            place = f"{path}, line {number}"
            yield place, loads(line, place, "a JSON object a line, in UTF-8")


def _array(path: str, text: str) -> Iterator[tuple[str, JsonObject]]:
    """A list of objects, or an object with one such list in it."""
    whole = loads(text, path, "a JSON list of objects, in UTF-8") if text.strip() else []
    if isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list)]
        if len(lists) != 1:
            keys = ", ".join(list(whole)[:8])
            expected = "expected a JSON list of objects, or one such list in it; mend it"
            raise TaskError(f"{path} holds an object with {len(lists)} lists ({keys}); {expected}")
        whole = lists[0]
    if not isinstance(whole, list):
        raise TaskError(f"{path} holds a {type(whole).__name__}; expected a JSON list of objects; mend it")
    yield from ((f"{path}, row {number}", row) for number, row in enumerate(whole, 1))


def _cells(path: str, text: str) -> Iterator[tuple[str, JsonObject]]:
    """A table whose first line names the columns; what is between them is what the first line has most of."""
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(PARTS, key=header.count), strict=True)
    place = f"{path}, line 1"
    try:
        names = reader.fieldnames or []
        if len(set(names)) < len(names) or "" in names:
            raise TaskError(f"{place} names the columns {names}; expected each once, with a name; mend it")
        for row in reader:
            place = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                found = sum(value is not None for name, value in row.items() if name is not None)
                found += len(row.get(None, []))
                raise TaskError(f"{place} has {found} cells; expected {len(names)}; quote or mend it")
            columns = [name for name in STRUCTURED if row.get(name)]
            yield place, row | {c: loads(row[c], f"{place}, {c}", "JSON in this column") for c in columns}
    except csv.Error as error:
        where = f"{path}, line {reader.line_num}"
        raise TaskError(f"{where}: {error}; expected a table of cells, quoted with \"; mend it") from None


READERS = {".jsonl": _lines, ".json": _array, ".csv": _cells}


def _checked(place: str, row: Any) -> None:
    """TaskError for what is no object, or has a text that is none."""
    if not isinstance(row, dict):
        raise TaskError(f"{place}: a {type(row).__name__}; expected a JSON object a line, in UTF-8; mend it")
    try:
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        expected = "expected text of whole characters"
        raise TaskError(f"{place}: half a surrogate pair; {expected}; mend it") from None
    except ValueError:
        raise TaskError(f"{place}: NaN or Infinity, which JSON has not; expected numbers; mend it") from None


# --- what is asked ---


def asked(
    row: Mapping[str, Any], columns: Sequence[str], place: str
) -> tuple[list[JsonObject], JsonObject]:
    """(turns up to the one that is to be answered, the row); where `messages` end with the assistant, that is
    its answer unless the row has one.

    LookupError where nothing is asked, TaskError for turns that can't be a question.
    """
    column = next((name for name in (*columns, "messages") if row.get(name) not in (None, "", [])), None)
    if column is None or not isinstance(row[column], str | list):
        raise LookupError(f"none of {columns}")
    if isinstance(row[column], str):
        return [{"role": "user", "content": row[column]}], dict(row)
    turns = [_turn(message, f"{place}, {column}") for message in row[column]]
    row = dict(row)
    if column == "messages" and turns[-1]["role"] == "assistant":
        row.setdefault("answer", turns.pop()["content"])
    if not turns or turns[-1]["role"] != "user":
        expected = "expected a last turn of the user, which is to be answered"
        raise TaskError(f"{place}: {column} end with {turns[-1]['role'] if turns else 'nothing'}; {expected}; mend it")
    return turns, row


def text_of(turns: Sequence[Mapping[str, str]]) -> str:
    """The turns as one text: who says what, where it is more than a question."""
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def _turn(message: Any, place: str) -> JsonObject:
    """A message as role and text; its content may be a list of parts."""
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        role = message.get("role") if isinstance(message, dict) else message
        raise TaskError(f"{place}: a message of role {role!r:.40}; expected one of {', '.join(ROLES)}; mend it")
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        content = "".join(parts) if all(isinstance(part, str) for part in parts) else None
    if not isinstance(content, str) or message.get("tool_calls"):
        raise TaskError(f"{place}: a message without a text as its content; expected one; mend or drop it")
    return {"role": message["role"], "content": content}
