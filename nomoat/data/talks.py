"""Conversations as people keep them in rows of a table, as messages (messages.py).

    {"messages": [{"role": "user", "content": "…"}, …]}            OpenAI's
    {"conversations": [{"from": "human", "value": "…"}, …]}        ShareGPT's
    {"prompt": "…", "completion": "…"}                             a question and answer, or messages of both

A column "system" is the first turn of any of them.
"""

from typing import Any

from nomoat.config import DataError, JsonObject
from nomoat.data.messages import MARKS, check_is_learnt

COLUMNS = ("messages", "conversations", "system", "prompt", "completion", *MARKS)
NOT = (0, "0", "false", "False")  # in a mark of the whole row
SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant",
    "assistant": "assistant", "system": "system",
}  # fmt: skip


def with_messages(row: JsonObject, where: str) -> JsonObject:
    """The row with all its turns as "messages", where it keeps a conversation; DataError for two of them."""
    present = [name for name in ("messages", "conversations", "completion") if row.get(name) is not None]
    if len(present) > 1:
        both = " and ".join(f"`{name}`" for name in present[:2])
        raise DataError(f"{where} has {both}; expected one of them: drop the other")
    messages = row.get("messages")
    if not present or not isinstance(messages, list | None):
        return row
    check_is_learnt({name: value for name, value in row.items() if value in NOT}, where)
    if present == ["conversations"]:
        messages = _of_speakers(row, where)
    elif present == ["completion"]:
        asked = _side(row.get("prompt"), "user", where)
        said = _side(row["completion"], "assistant", where)
        messages = [*asked, *said]
    system = _system(row, messages, where)
    return row | {"messages": [*system, *messages]}


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
        if not isinstance(turn, dict) or turn.get("from") not in SPEAKERS:
            speaker = turn.get("from") if isinstance(turn, dict) else turn
            raise DataError(
                f"{where}, turn {n} is from {speaker!r:.40}; expected one of {', '.join(SPEAKERS)}: mend or "
                "drop it"
            )
        marks = {name: value for name, value in turn.items() if name.strip().lower() in MARKS}
        messages.append({**marks, "role": SPEAKERS[turn["from"]], "content": turn.get("value")})
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
