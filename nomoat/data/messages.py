"""Rows of messages in OpenAI's format as turns of a conversation."""

from collections.abc import Sequence
from typing import Any

from nomoat.config import DataError, JsonObject
from nomoat.tasks.tables import text_in
from nomoat.tokenizer.layout import ROLES, Message

MARKS = ("weight", "train", "trainable", "loss", "loss_mask")  # by which others leave out a reply


def check_is_learnt(holder: JsonObject, place: str, learnt: Sequence[Any] = (None, 1)) -> None:
    """DataError for a turn or a row that is marked as one not to be learnt."""
    for name, value in holder.items():
        if name.strip().lower() in MARKS and value not in learnt:
            raise DataError(f"{place} has {name} {value!r:.20}; every reply is learnt: drop it")


def conversation(messages: list, where: str) -> tuple[Message, ...]:
    """Messages as turns; the assistant's chain from `reasoning_content`, `thinking` or a leading think block.

    DataError for other roles, contents that are no text, calls of tools, and where nothing is to be learnt.
    """
    turns = []
    for n, message in enumerate(messages, 1):
        place = f"{where}, message {n}"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            role = message.get("role") if isinstance(message, dict) else message
            expected = f"expected one of {', '.join(ROLES)}: mend or drop it"
            raise DataError(f"{place} has the role {role!r:.40}; {expected}")
        content = text_in(message)
        if content is None or message.get("tool_calls") or message.get("function_call"):
            raise DataError(f"{place}: a message without a text as its content; expected one: mend it")
        if message["role"] == "assistant":
            check_is_learnt(message, place)
        turns.append(_turn(message, content))
    if not any(turn.role == "assistant" for turn in turns):
        raise DataError(f"{where} has no turn of the assistant to learn; expected one: mend or drop it")
    return tuple(turns)


def _turn(message: dict, content: str) -> Message:
    if message["role"] != "assistant":
        return Message(message["role"], content)
    chain = message.get("reasoning_content", message.get("thinking"))
    if isinstance(chain, str):
        return Message("assistant", content, chain)
    begin, closed, answer = content.partition("</think>")
    begin = begin.lstrip()
    if closed and begin.startswith("<think>"):
        chain = begin.removeprefix("<think>").strip()
        return Message("assistant", answer.strip(), chain)
    return Message("assistant", content)
