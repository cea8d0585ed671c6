"""What passes between a route and the engine: what is asked, what comes, how it is written.

A route reads a body into an `Asked` and a `Form`.  The engine's tokens become `Delta`s, and the form writes
these as the events of a stream, or all of them as one answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from nomoat.config import JsonObject
from nomoat.engine.request import Request, Token
from nomoat.serve.calls import Call, Piece, gather
from nomoat.serve.tools import Tools
from nomoat.tokenizer.pieces import Kind

Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body of any route asks of the engine.

    The samples of `requests[i]` are the choices from `i * n` on.  `spelled` are control ids that are text of
    the reply, `tools` those that it may call, `begun` ids of the reply that are there already: the prompts
    end with them.
    """

    requests: tuple[Request, ...]
    stream: bool = False
    thinking: bool = False  # whether the prompts end within a think block
    spelled: frozenset[int] = frozenset()
    tools: Tools | None = None
    begun: tuple[int, ...] = ()

    @property
    def prompt(self) -> list[int]:
        """The ids of the first request's prompt, without the reply that has begun."""
        ids = list(self.requests[0].prompt)
        return ids[: len(ids) - len(self.begun)]


@dataclass(frozen=True, slots=True)
class Delta:
    """What a choice has more: text of one kind, parts of calls, and the tokens since the last one; or its
    end.
    """

    choice: int
    text: str
    kind: Kind
    tokens: tuple[Token, ...]
    finish: Finish | None = None
    calls: tuple[Piece, ...] = ()


@dataclass(slots=True)
class Choice:
    """A whole reply, gathered."""

    thinking: str = ""
    answer: str = ""
    calls: list[Call] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)
    finish: Finish = "stop"

    def add(self, delta: Delta) -> None:
        self.deltas.append(delta)
        for piece in delta.calls:
            gather(self.calls, piece)
        if delta.kind == "thinking":
            self.thinking += delta.text
        else:
            self.answer += delta.text
        self.finish = delta.finish or self.finish


@dataclass(slots=True)
class Usage:
    """What an answer has cost: tokens, seconds from its arrival, joules; how many ids were guessed for it,
    and how many of those were right.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    first_token_seconds: float = 0.0
    seconds: float = 0.0
    n_drafts: int = 0
    n_accepted: int = 0
    joules: float = 0.0
    joules_source: str = "estimated"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream: a JSON object, or a bare text as `[DONE]`."""

    data: JsonObject | str
    name: str | None = None


class Form(Protocol):
    """How the answers of a route are written; one form is for one answer."""

    def begin(self, n_choices: int) -> Iterator[Event]:
        """What a stream begins with."""

    def delta(self, delta: Delta) -> Iterator[Event]:
        """What is sent of a delta."""

    def end(self, usage: Usage) -> Iterator[Event]:
        """What a stream ends with."""

    def error(self, error: JsonObject) -> Iterator[Event]:
        """What a stream ends with that can't go on."""

    def whole(self, choices: Sequence[Choice], usage: Usage) -> JsonObject:
        """The answer to a request without a stream."""
