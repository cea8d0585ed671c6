"""Conversations as people keep them in rows of a table, as messages (messages.py).

    {"messages": [{"role": "user", "content": "…"}, …]}            OpenAI's
    {"conversations": [{"from": "human", "value": "…"}, …]}        ShareGPT's, its "system" beside or inside
    {"prompt": "…", "completion": "…"}                             a question and answer, or messages of both
"""

from typing import Any

from nomoat.config import DataError, JsonObject

COLUMNS = ("messages", "conversations", "system", "prompt", "completion")
SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant",
    "assistant": "assistant", "system": "system",
}  # fmt: skip


def with_messages(row: JsonObject, where: str) -> JsonObject:
    """The row with "messages", where it keeps a conversation in another way; DataError for two of them."""
    present = [name for name in ("messages", "conversations", "completion") if row.get(name) is not None]
    if len(present) > 1:
        both = " and ".join(f"`{name}`" for name in present[:2])
        raise DataError(f"{where} has {both}; expected one of them: drop the other")
    if present == ["conversations"]:
        return row | {"messages": _of_speakers(row, where)}
    if present == ["completion"]:
        both = _side(row.get("prompt"), "user", where), _side(row["completion"], "assistant", where)
        return row | {"messages": [*both[0], *both[1]]}
    return row


def _of_speakers(row: JsonObject, where: str) -> list[JsonObject]:
    """ShareGPT's turns."""
    turns = row["conversations"]
    if not isinstance(turns, list):
        raise DataError(f"{where} has `conversations` that are no list; expected turns: mend or drop it")
    messages = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for n, turn in enumerate(turns, 1):
        if not isinstance(turn, dict) or turn.get("from") not in SPEAKERS:
            speaker = turn.get("from") if isinstance(turn, dict) else turn
            raise DataError(
                f"{where}, turn {n} is from {speaker!r:.40}; expected one of {', '.join(SPEAKERS)}: mend or "
                "drop it"
            )
        messages.append({"role": SPEAKERS[turn["from"]], "content": turn.get("value")})
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
