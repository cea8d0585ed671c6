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

QUESTION = ("question", "problem", "prompt")
ANSWER = ("answer", "solution", "canonical_solution", "ground_truth")
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
NAME = re.compile(r"(.+?\.(?:jsonl|json|csv|tsv))(?::(.*))?", re.DOTALL | re.IGNORECASE)
ROLES = ("system", "user", "assistant")
KNOWN = (*QUESTION, *ANSWER, "test", "entry_point", "inputs", "outputs", "units", "messages", "lang")
STRUCTURED = ("inputs", "outputs", "units", "messages")  # columns of a .csv that hold JSON
PARTS = ",;\t"  # what may stand between the columns
MESSAGES = re.compile(r'\s*\[\s*\{\s*"(?:role|content)"\s*:')  # JSON of messages in a cell
SPLITS = {"train": "train", **dict.fromkeys(("test", "eval", "validation", "valid", "dev"), "eval")}
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
        rows[place] = _called(place, _renamed(place, row, renamed))
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
        if name != key and name in KNOWN and name not in row:
            if name in plain:
                found = f"{place} has the columns {plain[name]!r} and {key!r}"
                raise TaskError(f"{found}; expected one of them; drop or rename the other")
            plain[name] = key
    return row | {name: row[key] for name, key in plain.items()}


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
    columns += [name for name in QUESTION if MESSAGES.match(row.get(name, ""))]
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
        raise LookupError(f"no {columns[0]}")
    system = _system(row, place)
    if isinstance(row[column], str):
        last = row["messages"][-1] if isinstance(row.get("messages"), list) and row["messages"] else {}
        ends = isinstance(last, dict) and last.get("role") == "assistant" and text_in(last)
        row = _with_answer(row, ends) if ends else dict(row)
        return [*system, {"role": "user", "content": row[column]}], row
    turns = [_turn(message, f"{place}, {column}") for message in row[column]]
    if system and turns and turns[0]["role"] == "system":
        found = f"{place} has `system` beside {column} that begin with one"
        raise TaskError(f"{found}; expected one of them; drop the other")
    turns = system + turns
    row = dict(row)
    if row.get("tools") or row.get("functions"):
        raise TaskError(f"{place} has tools, which no question tells; expected none; drop them, or the row")
    if column == "messages" and turns[-1]["role"] == "assistant":
        row = _with_answer(row, turns.pop()["content"])
    if not turns or turns[-1]["role"] != "user":
        expected = "expected a last turn of the user, which is to be answered"
        last = turns[-1]["role"] if turns else "nothing"
        raise TaskError(f"{place}: {column} end with {last}; {expected}; mend it")
    return turns, row


def _with_answer(row: Mapping[str, Any], said: str) -> JsonObject:
    """The row with what the assistant says last: its answer, or what has to agree with that."""
    if not row.get("answer"):
        return {**row, "answer": said}
    worked = any(mark in said.strip() for mark in ("\n", "\\boxed", "####"))
    return {"solution" if worked else "ground_truth": said, **row}


def _system(row: Mapping[str, Any], place: str) -> list[JsonObject]:
    """The turn that a column `system` holds."""
    said = row.get("system")
    if said in (None, ""):
        return []
    if not isinstance(said, str):
        raise TaskError(f"{place}: system is a {type(said).__name__}; expected a text; mend it")
    return [{"role": "system", "content": said}]


def one_question(row: Mapping[str, Any], columns: Sequence[str], place: str) -> None:
    """TaskError where two columns ask different things, of which one would not be asked."""
    first = None
    for name in (*columns, "messages"):
        text = _last_words(row, name, place)
        first = first or (text and name)
        if text in (None, _last_words(row, first, place)):
            continue
        raise TaskError(
            f"{place}: its {first} and its {name} ask different things ({text[:60]!r}); expected the same; "
            f"drop one, or choose with :question={name}"
        )


def _last_words(row: Mapping[str, Any], name: str, place: str) -> str | None:
    """What a column asks last, if it asks."""
    if not row.get(name) or not isinstance(row[name], str | list):
        return None
    turns, _ = asked({name: row[name]}, (name,), place)
    return " ".join(turns[-1]["content"].split())


def unread(rows: Mapping[str, JsonObject]) -> list[str]:
    """The columns that nothing is made of."""
    columns = dict.fromkeys(name for row in rows.values() for name in row)
    return [name for name in columns if name.strip().lower() not in READ]


def text_of(turns: Sequence[Mapping[str, str]]) -> str:
    """The turns as one text: who says what, where it is more than a question."""
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def _turn(message: Any, place: str) -> JsonObject:
    """A message as role and text; its content may be a list of parts."""
    role = message.get("role") if isinstance(message, dict) else message
    if role not in ROLES:
        expected = f"expected one of {', '.join(ROLES)}; mend it"
        raise TaskError(f"{place}: a message of role {role!r:.40}; {expected}")
    content = text_in(message)
    if content is None or message.get("tool_calls") or message.get("function_call"):
        raise TaskError(f"{place}: a message without a text as its content; expected one; mend or drop it")
    return {"role": role, "content": content}


def text_in(message: Mapping[str, Any]) -> str | None:
    """The text of a message, whose content may be a list of parts; None where there is anything else."""
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, dict) else None for part in content]
        content = "".join(texts) if all(isinstance(text, str) for text in texts) else None
    return content if isinstance(content, str) else None
