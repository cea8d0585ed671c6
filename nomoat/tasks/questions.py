"""What a row asks: its turns, whether its columns agree about them, and what of it is not read."""

from collections.abc import Mapping, Sequence
from typing import Any

from nomoat.config import JsonObject, TaskError
from nomoat.tasks import messages
from nomoat.tasks.tables import QUESTION, READ


def asked(
    row: Mapping[str, Any], columns: Sequence[str], place: str
) -> tuple[list[JsonObject], JsonObject]:
    """(turns up to the one that is to be answered, the row); where `messages` end with the assistant, that is
    its answer unless the row has one.

    LookupError where nothing is asked, TaskError for turns that can't be a question.
    """
    column = next((name for name in (*columns, "messages") if _is_filled(row.get(name))), None)
    if column is None or not isinstance(row[column], str | list):
        raise LookupError(f"no {columns[0]}")
    system = _system(row, place)
    if isinstance(row[column], str):
        last = row["messages"][-1] if isinstance(row.get("messages"), list) and row["messages"] else {}
        ends = isinstance(last, dict) and last.get("role") == "assistant" and messages.text_in(last)
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
    _check_last(turns, f"{place}: {column}")
    return turns, row


def _check_last(turns: Sequence[JsonObject], place: str) -> None:
    """TaskError for turns that do not end with the user, or with nothing said."""
    last = turns[-1]["role"] if turns else "nothing"
    if last == "user" and turns[-1]["content"].strip():
        return
    last += " who says nothing" if last == "user" else ""
    expected = "expected a last turn of the user, which is to be answered"
    raise TaskError(f"{place} end with {last}; {expected}; mend it")


def _is_filled(value: Any) -> bool:
    """Whether a column asks anything."""
    return bool(value.strip()) if isinstance(value, str) else value not in (None, [])


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
        text = _asks(row, name, place)
        first = first or (text and name)
        if text in (None, _asks(row, first, place)):
            continue
        cure = f"leave it out with :other={first}" if name == "messages" else f"choose with :question={name}"
        raise TaskError(
            f"{place}: its {first} and its {name} ask different things ({text[:60]!r}); expected the same; "
            f"drop one, or {cure}"
        )


def _asks(row: Mapping[str, Any], name: str, place: str) -> str | None:
    """All the turns that a column asks, if it asks, behind the row's system prompt."""
    column = row.get(name)
    if not isinstance(column, str | list) or not _is_filled(column):
        return None
    turns, _ = asked({name: column}, (name,), place)
    if turns[0]["role"] != "system":
        turns = [*_system(row, place), *turns]
    return " ".join(text_of(turns).split())


def check_marks(row: Mapping[str, Any], place: str) -> None:
    """TaskError for a row that is marked as one not to be learnt."""
    yes_or_no = {name: value for name, value in row.items() if value in messages.YES + messages.NO}
    if mark := messages.mark_in(yes_or_no):
        cure = "drop the row or the column, or put `test` into a column `split`"
        raise TaskError(f"{place} has {mark}; expected problems to train on; {cure}")


def unread(rows: Mapping[str, JsonObject]) -> list[str]:
    """The columns, and keys of messages, that nothing is made of."""
    columns = dict.fromkeys(name for row in rows.values() for name in row)
    of_messages = set()
    for row in rows.values():
        for name in (*QUESTION, "messages"):
            turns = row.get(name)
            if isinstance(turns, list):
                of_messages.update(messages.beside(turns))
    left = [name for name in columns if name.strip().lower() not in READ]
    return left + [f"{name} of messages" for name in sorted(of_messages)]


def text_of(turns: Sequence[Mapping[str, str]]) -> str:
    """The turns as one text: who says what, where it is more than a question."""
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def _turn(message: Any, place: str) -> JsonObject:
    """A message as role and text; its content may be a list of parts."""
    if wrong := messages.wrong_with(message):
        raise TaskError(f"{place}: a message with {wrong}; mend or drop it")
    return {"role": message["role"], "content": messages.text_in(message)}
