"""Files of problems as rows, each by its place: .jsonl, .json, .csv and .tsv, in UTF-8, with or without mark.

    mine.csv:question=q,answer=a    the column q is called question, a answer

Names of columns are also read in other case and with blanks around them.

What can't be is a TaskError with file and line, before anything is made of it.
"""

import csv
import decimal
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nomoat.config import JsonObject, TaskError, nearest
from nomoat.files import once, what_is
from nomoat.tasks import messages

QUESTION = ("question", "problem", "prompt")
ANSWER = ("answer", "solution", "canonical_solution", "ground_truth")
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
NAME = re.compile(r"(.+?\.(?:jsonl|json|csv|tsv))(?::(.*))?", re.DOTALL | re.IGNORECASE)
KNOWN = (*QUESTION, *ANSWER, "test", "entry_point", "inputs", "outputs", "units", "messages", "lang")
STRUCTURED = ("inputs", "outputs", "units", "messages")  # columns of a .csv that hold JSON
PARTS = ",;\t"  # what may stand between the columns
SPLITS = {"train": "train", **dict.fromkeys(("test", "eval", "validation", "valid", "val", "dev"), "eval")}
READ = (*KNOWN, "id", "task_id", "system", "split", "tools", "functions")


def parted(name: str) -> list[str]:
    """The path in the name of a task, and its options."""
    path, options = NAME.fullmatch(name).groups()
    return [path, *(options.split(":") if options else [])]


def read(path: str, options: Sequence[str] = ()) -> dict[str, JsonObject]:
    """The rows of a file by their place, their columns called as the options say; at least one."""
    text = _text(Path(path))
    reader = READERS[Path(path).suffix.lower()]
    renamed = dict(_renamings(path, options))
    rows = {}
    for place, row in reader(path, text):
        _checked(place, row)
        rows[place] = _spoken(place, _called(place, _renamed(place, row, renamed)))
    if rows:
        return rows
    expected = "a JSON object with question and answer a line"
    if READERS[Path(path).suffix.lower()] is _cells:
        expected = "a first line that names the columns question and answer, and rows below it"
    raise TaskError(f"{path} is empty; expected {expected}; add some")


def _called(place: str, row: JsonObject) -> JsonObject:
    """The row, also under the names that are known, in small letters and without blanks."""
    plain = {}
    for key in row:
        name = key.strip("\ufeff\u200b\u00a0 \t").lower()
        if name in READ and plain.setdefault(name, key) != key:
            found = f"{place} has the columns {plain[name]!r} and {key!r}"
            raise TaskError(f"{found}; expected one of them; drop or rename the other")
    return row | {name: row[key] for name, key in plain.items()}


def _spoken(place: str, row: JsonObject) -> JsonObject:
    """The row with messages for what is nothing but their JSON; TaskError for what would be asked wrongly."""
    for name in (*QUESTION, "messages"):
        if not isinstance(row.get(name), str):
            continue
        try:
            found = messages.spelled(row[name])
        except ValueError as wrong:
            raise TaskError(f"{place}: {name} holds {wrong}; mend it") from None
        row = row if found is None else {**row, name: found}
        if found is None and (mark := messages.templated(row[name])):
            expected = "expected the question alone, or messages"
            raise TaskError(f"{place}: {name} begins with a chat template's {mark}; {expected}; mend it")
    if told := next((name for name in messages.MEDIA if row.get(name) not in messages.EMPTY), None):
        raise TaskError(f"{place} has {told}, which no question shows; expected none; drop the row")
    return row


def _renamed(place: str, row: JsonObject, renamed: Mapping[str, str]) -> JsonObject:
    """The row with new names for some of its columns, in the place of what was called so."""
    kept = dict(row)
    for old in renamed.values():
        if old not in row:
            raise TaskError(f"{place} has no column {old!r}; {nearest(old, list(row))}")
        kept.pop(old, None)
    return kept | {new: row[old] for new, old in renamed.items()}


def _renamings(path: str, options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(new name, column) of each pair, every name and column once."""
    seen = set()
    for pair in (pair for option in options if "=" in option for pair in option.split(",")):
        new, equals, old = (part.strip() for part in pair.partition("="))
        if not (new and equals and old):
            raise TaskError(f"{path}: columns {pair!r}; expected such as question=q,answer=a; mend it")
        for part in (f"{new}=", f"={old}"):
            if part in seen:
                found = f"{path}: columns {pair!r}: {part.strip('=')} is there twice"
                raise TaskError(f"{found}; expected it once; mend it")
            seen.add(part)
        yield new, old


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise TaskError(f"{what_is(path)}; expected a file of problems; check the path")
    try:
        content = path.read_bytes()
        if b"\0" in content:  # no text has it, and UTF-16 at every second place
            raise UnicodeDecodeError("utf-8", content, content.index(b"\0"), len(content), "zero")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror}; expected a file of problems; check the path") from None
    except UnicodeDecodeError as error:
        raise TaskError(_undecoded(path, content, error.start)) from None


def _undecoded(path: Path, content: bytes, at: int) -> str:
    """What is no UTF-8 in a file, in which line, and how to convert it."""
    line = content.count(b"\n", 0, at) + 1
    found, guess = "UTF-16", ""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        code = "utf-16"
    elif content.count(b"\0") * 3 > len(content):
        code = "utf-16le" if content[0] else "utf-16be"
    else:
        code = "latin1"
        guess = " (if that is what it is in)"
        found = f"the byte 0x{content[at]:02x}"
    cure = f"convert it: `iconv -f {code} -t utf-8 {path} > utf8{path.suffix}`{guess}"
    if guess and not content[at]:
        cure = "take it out"
    return f"{path}, line {line}: {found}; expected text in UTF-8; {cure}"


def loads(text: str, place: str, expected: str) -> Any:
    """The JSON value in a text; TaskError for what is none, nested too deeply, or a number too long."""
    try:
        return json.loads(text, object_pairs_hook=once, parse_float=_float)
    except RecursionError:
        raise TaskError(f"{place}: nested too deeply; expected {expected}; mend it") from None
    except ValueError as error:
        if digits := re.search(r"limit \((\d+) digits\).*has (\d+) digits", str(error)):
            found = f"a number of {digits[2]} digits; expected at most {digits[1]}"
            raise TaskError(f"{place}: {found}; shorten it, or quote it as text") from None
        raise TaskError(f"{place}: {error}; expected {expected}; mend it") from None


class Digits(float):
    """A number whose text has more digits than it can hold."""

    text: str


def _float(text: str) -> float:
    """The number in a text of JSON; with the text, where it can't hold all of it."""
    number = Digits(text)
    number.text = text
    with decimal.localcontext() as context:
        context.traps[decimal.InvalidOperation] = False  # an exponent beyond all bounds is a NaN
        holds = decimal.Decimal(text) == decimal.Decimal(repr(float(text)))
    return float(text) if holds or not math.isfinite(number) else number


def _lines(path: str, text: str) -> Iterator[tuple[str, JsonObject]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            place = f"{path}, line {number}"
            yield place, loads(line, place, "a JSON object a line, in UTF-8")


def _array(path: str, text: str) -> Iterator[tuple[str, JsonObject]]:
    """A list of objects, or an object with one such list in it."""
    whole = loads(text, path, "a JSON list of objects, in UTF-8") if text.strip() else []
    expected = "expected a JSON list of objects, or an object with one such list in it; mend it"
    if isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list)]
        if len(lists) != 1:
            keys = ", ".join(list(whole)[:8])
            raise TaskError(f"{path} holds an object with {len(lists)} lists ({keys}); {expected}")
        whole = lists[0]
    if not isinstance(whole, list):
        kind = type(whole).__name__
        raise TaskError(f"{path} holds a {kind}; {expected}")
    yield from ((f"{path}, row {number}", row) for number, row in enumerate(whole, 1))


def _cells(path: str, text: str) -> Iterator[tuple[str, JsonObject]]:
    """A table whose first line names the columns; what is between them is what the first line has most of."""
    header = text.partition("\n")[0]
    tabs = path.lower().endswith(".tsv")
    between = "\t" if tabs else max(PARTS, key=header.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True)
    try:
        names = [name.strip() for name in next(lines, [])]
        if len(set(names)) < len(names) or "" in names:
            found = f"{path}, line 1 names the columns {names}"
            raise TaskError(f"{found}; expected each once, with a name; mend it")
        for cells in filter(None, lines):
            place = f"{path}, line {lines.line_num}"
            if len(cells) != len(names):
                raise TaskError(f"{place} has {len(cells)} cells; expected {len(names)}; quote or mend it")
            row = dict(zip(names, cells))
            yield place, row | _structured(place, row)
    except csv.Error as error:
        place = f"{path}, line {lines.line_num}"
        raise TaskError(f'{place}: {error}; expected a table of cells, quoted with "; mend it') from None


def _structured(place: str, row: Mapping[str, str]) -> JsonObject:
    """What the columns that hold JSON hold."""
    columns = [name for name in STRUCTURED if row.get(name)]
    return {name: loads(row[name], f"{place}, {name}", "JSON in this column") for name in columns}


READERS = {".jsonl": _lines, ".json": _array, ".csv": _cells, ".tsv": _cells}


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
