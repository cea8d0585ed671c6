"""Rows of messages in OpenAI's format as turns of a conversation."""

from nomoat.config import DataError, JsonObject
from nomoat.tasks import messages as others
from nomoat.tokenizer.layout import Message


def check_is_learnt(holder: JsonObject, place: str, *, learnt: bool = True) -> None:
    """DataError for a turn or a row that is marked as one that is not learnt as all of its kind are."""
    if mark := others.mark_in(holder, learnt):
        what = "every reply is learnt" if learnt else "nothing but replies is learnt"
        raise DataError(f"{place} has {mark}; {what}: drop it")


def conversation(messages: list, where: str) -> tuple[Message, ...]:
    """Messages as turns; the assistant's chain from `reasoning_content`, `thinking` or a leading think block.

    DataError for other roles, contents that are no text, calls of tools, and where nothing is to be learnt.
    """
    turns = []
    for n, message in enumerate(messages, 1):
        place = f"{where}, message {n}"
        if wrong := others.wrong_with(message):
            raise DataError(f"{place} has {wrong}: mend or drop it")
        replies = message["role"] == "assistant"
        check_is_learnt(message, place, learnt=replies)
        turns.append(_turn(message, place) if replies else Message(message["role"], others.text_in(message)))
    if not any(turn.role == "assistant" for turn in turns):
        raise DataError(f"{where} has no turn of the assistant to learn; expected one: mend or drop it")
    return tuple(turns)


def _turn(message: JsonObject, place: str) -> Message:
    """A reply, and its chain."""
    content, chain = others.text_in(message), others.chain_in(message)
    if chain is None:
        begin, closed, answer = content.partition("</think>")
        chain = begin.strip().removeprefix("<think>").strip() if closed else None
        opened = begin.lstrip().startswith("<think>")
        content = answer.strip() if closed else content
        if (opened and not closed) or "<think>" in (chain or ""):
            raise DataError(f"{place} has a chain of thought without an end; expected </think>: mend it")
    if not content.strip():
        raise DataError(f"{place} says nothing; expected a reply to learn: mend or drop it")
    return Message("assistant", content, chain)
