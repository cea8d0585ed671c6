"""The chat layout: with layout.jinja, its twin for other programs, all that knows the special tokens.

    <|bos|> [<|system|> text] <|user|> text <|assistant|> [<think> chain </think>] answer <|eos|> <|user|> …

Nothing stands between the parts: no newline, no space.  The control ids are set here one by one and the content is
encoded apart by a tokenizer that can't emit them, so no content can forge a turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nomoat.config import DataError


class Encoder(Protocol):
    """A tokenizer whose ids of a content are never special."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...

SPECIALS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>", "<think>", "</think>")
PAD, BOS, EOS, SYSTEM, USER, ASSISTANT, THINK, END_THINK = range(8)
ROLES = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
TURN_ENDS = frozenset((PAD, BOS, EOS, SYSTEM, USER, ASSISTANT))  # what can't stand inside a reply
_OPENING: dict[bool | None, tuple[int, ...]] = {None: (), True: (THINK,), False: (THINK, END_THINK)}


@dataclass(frozen=True, slots=True)
class Message:
    role: str  # system, user or assistant
    content: str
    thinking: str | None = None  # None: no think block; "": an empty one


@dataclass(frozen=True, slots=True)
class Rendered:
    ids: list[int]
    trained: list[bool]  # True where the assistant chose the token


def template() -> str:
    """The layout as the Jinja template that other programs read from tokenizer_config.json."""
    return Path(__file__).with_name("layout.jinja").read_text("utf-8").rstrip("\n")


def render(tokenizer: Encoder, messages: Sequence[Message], *, generate: bool, think: bool | None = None) -> Rendered:
    """The ids of a conversation; with `generate`, up to where the assistant is to write.

    `think` (only with `generate`): True opens a think block, False sets an empty one, None leaves it to the model.
    Thinking is kept in the last message alone.  Trained is what the assistant wrote, except a turn whose thinking
    was dropped: nobody wrote that answer without its chain.
    """
    return render_batch(tokenizer, [messages], generate=generate, think=think)[0]


def render_batch(
    tokenizer: Encoder, conversations: Sequence[Sequence[Message]], *, generate: bool, think: bool | None = None
) -> list[Rendered]:
    """`render` of each conversation, with one call to the encoder."""
    if think is not None and not generate:
        raise ValueError("think has a meaning only where the assistant is to write: generate=True")
    for n, message in enumerate(m for messages in conversations for m in messages):
        if message.role not in ROLES:
            raise DataError(f"message {n} has role {message.role!r}; expected system, user or assistant")
    encoded = iter(tokenizer.encode_batch([t for c in conversations for m in c for t in (m.content, m.thinking or "")]))
    opening = [ASSISTANT, *_OPENING[think]] if generate else []
    out = []
    for messages in conversations:
        parts = [([BOS], False)]
        for n, message in enumerate(messages):
            content, chain = next(encoded), next(encoded)
            parts.append(([ROLES[message.role]], False))
            if message.role != "assistant":
                parts.append((content, False))
                continue
            last = n == len(messages) - 1
            if last and message.thinking is not None:
                parts.append(([THINK, *chain, END_THINK], True))
            parts.append(([*content, EOS], last or message.thinking is None))
        parts.append((opening, False))
        ids = [id for part, _ in parts for id in part]
        out.append(Rendered(ids, [wrote for part, wrote in parts for _ in part]))
    return out
