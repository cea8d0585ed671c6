"""Conversations as people keep them in rows of a table, as messages (messages.py).

    {"messages": [{"role": "user", "content": "…"}, …]}            OpenAI's
    {"conversations": [{"from": "human", "value": "…"}, …]}        ShareGPT's, calls and results among them
    {"prompt": "…", "completion": "…"}                             a question and answer, or messages of both

A column "system" is the first turn of any of them, a column "tools" what the model is told that it may call.
"""

import warnings
from collections.abc import Iterable
from typing import Any

from nomoat.config import DataError, JsonObject
from nomoat.data import calls
from nomoat.data.messages import check_is_learnt
from nomoat.tasks import messages as others

COLUMNS = ("messages", "conversations", "system", "prompt", "completion")
BESIDE = ("split", "label", "tools", "functions", *others.MEDIA)  # by which a row may be left out
HELD = ("id", "lang", "text", "source", "url", "date", "category", "language", *COLUMNS, *BESIDE)
SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant",
    "assistant": "assistant", "system": "system", "function_call": "assistant", "tool_call": "assistant",
    "observation": "tool", "tool": "tool", "function_response": "tool", "tool_response": "tool",
}  # fmt: skip
CALLERS = ("function_call", "tool_call")


def is_beside(name: str) -> bool:
    """Whether a column says whether the row beside it is learnt."""
    return name in BESIDE or others.is_mark(name)


def column_of(row: Any, column: str, where: str) -> Any:
    """A row whose column of texts or messages is called so."""
    if not isinstance(row, dict):
        return row
    if column not in row:
        raise DataError(
            f"{where} has the columns {sorted(row)}, none of them `{column}`; choose one of those as its "
            "`column`"
        )
    text = row[column]
    text = "" if text is None else text  # a row without a text is left out
    if not isinstance(text, str | list):
        raise DataError(
            f"{where} has a {type(text).__name__} in `{column}`; expected a text or messages; choose another "
            "`column`"
        )
    kept = {name: value for name, value in row.items() if name == "lang" or is_beside(name)}
    return kept | {"messages" if isinstance(text, list) else "text": text}


def of_table(row: Any) -> Any:
    """A row of a table, whose records have all fields of the others, without those that hold nothing."""
    if not isinstance(row, dict):
        return row
    return {name: _filled(value) if isinstance(value, list) else value for name, value in row.items()}


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _filled(inner) for name, inner in value.items() if inner is not None}
    return [_filled(inner) for inner in value] if isinstance(value, list) else value


def with_messages(row: JsonObject, where: str) -> JsonObject:
    """The row with all its turns as "messages", where it keeps a conversation; DataError for two of them."""
    _check_row(row, where)
    row = _parsed(row, where)
    present = [name for name in ("messages", "conversations", "completion") if row.get(name) is not None]
    if len(present) > 1:
        both = " and ".join(f"`{name}`" for name in present[:2])
        raise DataError(f"{where} has {both}; expected one of them: drop the other")
    messages = row.get("messages")
    if not present or not isinstance(messages, list | None):
        return row
    if row.get("label") is False:
        raise DataError(f"{where} has label False, a reply that is not wanted; expected others: drop it")
    if present == ["conversations"]:
        messages = _of_speakers(row, where)
    elif present == ["completion"]:
        asked = _side(row.get("prompt"), "user", where)
        said = _side(row["completion"], "assistant", where)
        messages = [*asked, *said]
    say_unread(row, [name for name, value in row.items() if value not in others.EMPTY], messages)
    system = _system(row, messages, where)
    return row | {"messages": [*system, *messages]}


def say_unread(row: JsonObject, names: Iterable[str], messages: Iterable[Any] = ()) -> None:
    """A warning that names what is beside a conversation, and in its messages, of which nothing is made."""
    left = [name for name in names if name not in HELD and not others.is_mark(name)]
    if isinstance(row.get("messages"), list) and row.get("prompt"):
        left.append("prompt")
    told = (*others.MEANING, *others.CHAINS)  # refused, or read
    for name in others.beside(messages):
        if name in told or others.is_mark(name):
            continue
        left.append(f"{name} of messages")
    if left:
        warnings.warn(f"beside conversations is not read: {', '.join(left[:12])}", stacklevel=2)


def _check_row(row: JsonObject, where: str) -> None:
    """DataError for a row that says itself that it is not for training, or shows what is no text."""
    marks = {name: value for name, value in row.items() if others.is_mark(name)}
    check_is_learnt(marks, where)
    side = row.get("split")
    learnt = side in others.EMPTY or str(side).strip().lower() in ("train", "training")
    if not learnt:
        found = f"{where} has split {side!r:.20}; every row is learnt"
        raise DataError(f"{found}: drop it, or call the column otherwise")
    for told in others.MEDIA:
        if row.get(told) in others.EMPTY:
            continue
        raise DataError(f"{where} has `{told}`, which no layout here shows; expected text alone: drop it")


def _parsed(row: JsonObject, where: str) -> JsonObject:
    """The row with messages for what is nothing but their JSON."""
    for name in ("text", "messages", "conversations", "prompt", "completion"):
        if not isinstance(row.get(name), str) or row[name].lstrip()[:1] not in ("[", "{", "<"):
            continue
        try:
            found = others.spelled(row[name])
        except ValueError as wrong:
            raise DataError(f"{where}: {name} holds {wrong}: mend it") from None
        if found is None:
            if name != "completion" and (mark := others.templated(row[name])):
                expected = "expected plain text, or messages, of which replies alone are learnt"
                raise DataError(f"{where}: {name} begins with a chat template's {mark}; {expected}: mend it")
            continue
        row = {key: value for key, value in row.items() if key != name}
        shared = any(isinstance(turn, dict) and "from" in turn for turn in found)
        row[("conversations" if shared else "messages") if name == "text" else name] = found
    return row


def _system(row: JsonObject, messages: list[JsonObject], where: str) -> list[JsonObject]:
    """The turn that a column `system` holds."""
    said = row.get("system")
    if said in (None, ""):
        return []
    if not isinstance(said, str):
        raise DataError(f"{where}: system is a {type(said).__name__}; expected a text: mend it")
    if any(isinstance(message, dict) and message.get("role") == "system" for message in messages):
        raise DataError(f"{where} has `system` beside turns with one; expected one of them: drop the other")
    return [{"role": "system", "content": said}]


def _of_speakers(row: JsonObject, where: str) -> list[JsonObject]:
    """ShareGPT's turns."""
    turns = row["conversations"]
    if not isinstance(turns, list):
        raise DataError(f"{where} has `conversations` that are no list; expected turns: mend or drop it")
    messages = []
    for n, turn in enumerate(turns, 1):
        place = f"{where}, turn {n}"
        speaker = turn.get("from") if isinstance(turn, dict) else turn
        if not isinstance(speaker, str) or not isinstance(turn, dict) or speaker not in SPEAKERS:
            expected = f"expected one of {', '.join(SPEAKERS)}"
            raise DataError(f"{place} is from {speaker!r:.40}; {expected}: mend or drop it")
        said = {name: value for name, value in turn.items() if name not in ("from", "value")}
        said |= {"role": SPEAKERS[speaker], "content": turn.get("value")}
        if speaker in CALLERS:
            said |= {"content": None, "tool_calls": calls.shared(turn.get("value"), place)}
        messages.append(said)
    return messages


def _side(side: Any, role: str, where: str) -> list[JsonObject]:
    """A prompt or a completion."""
    if isinstance(side, str):
        return [{"role": role, "content": side}]
    if isinstance(side, list):
        return side
    raise DataError(
        f"{where} has a {type(side).__name__} beside its completion or for it; expected a text or messages "
        "in `prompt` and in `completion`: mend or drop it"
    )
