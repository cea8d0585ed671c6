"""Rows of messages in OpenAI's format as turns of a conversation."""

from dataclasses import replace

from nomoat.config import DataError, JsonObject
from nomoat.data import calls
from nomoat.tasks import messages as others
from nomoat.tokenizer.layout import Message


def check_is_learnt(holder: JsonObject, place: str, *, learnt: bool = True) -> None:
    """DataError for a turn or a row that is marked as one that is not learnt as all of its kind are."""
    if mark := others.mark_in(holder, learnt):
        what = "every reply is learnt" if learnt else "nothing but replies is learnt"
        raise DataError(f"{place} has {mark}; {what}: drop it")


def conversation(messages: list, where: str) -> tuple[Message, ...]:
    """Messages as turns; the assistant's chain from `reasoning_content`, `thinking` or a leading think block.

    DataError for other roles, contents that are no text, results of no call, and where nothing is to be
    learnt.
    """
    turns = []
    for n, message in enumerate(messages, 1):
        place = f"{where}, message {n}"
        message, beside = calls.parted(message, place)
        if beside.get("role") == "tool" and not (turns and (turns[-1].calls or turns[-1].role == "tool")):
            raise DataError(f"{place} has a tool's result behind no call; expected a reply with `tool_calls`")
        if wrong := others.wrong_with(message):
            raise DataError(f"{place} has {wrong}: mend or drop it")
        replies = message["role"] == "assistant"
        check_is_learnt(message, place, learnt=replies)
        turn = Message(message["role"], others.text_in(message))
        if replies:
            turn = _turn(message, place, calls=bool(beside))
        turns.append(replace(turn, **beside))
    if not any(turn.role == "assistant" for turn in turns):
        raise DataError(f"{where} has no turn of the assistant to learn; expected one: mend or drop it")
    return tuple(turns)


def _turn(message: JsonObject, place: str, *, calls: bool) -> Message:
    """A reply, and its chain; what also `calls` tools may say nothing."""
    content, chain = others.text_in(message), others.chain_in(message)
    if chain is None:
        begin, closed, answer = content.partition("</think>")
        chain = begin.strip().removeprefix("<think>").strip() if closed else None
        opened = begin.lstrip().startswith("<think>")
        content = answer.strip() if closed else content
        if (opened and not closed) or "<think>" in (chain or ""):
            raise DataError(f"{place} has a chain of thought without an end; expected </think>: mend it")
    if not (content.strip() or calls):
        raise DataError(f"{place} says nothing; expected a reply to learn: mend or drop it")
    return Message("assistant", content, chain)
