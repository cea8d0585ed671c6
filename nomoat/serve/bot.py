"""A model to talk to: from messages to pieces of text.  render -> stream -> pieces."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from nomoat.config import ConfigError, DataError
from nomoat.engine.engine import Engine, Limits
from nomoat.engine.generate import stream
from nomoat.engine.request import Request, Sampling, Token
from nomoat.model.transformer import Transformer
from nomoat.tokenizer import layout
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.pieces import Piece, pieces

ROWS = 4  # as many conversations of the whole context stay in the cache


@dataclass
class Reply:
    """Iterates over the pieces of a reply as they come; then says how it ended.

    `stop` is "end" where the model ended it, "length" where it was cut, by its limit or by the context, and
    "interrupted" while it is not whole.
    """

    source: Generator[Piece]
    n_prompt: int  # tokens
    n_forgotten: int  # messages that found no room in the context
    context: int
    n_tokens: int = 0
    n_thinking: int = 0  # of these, in its thinking, which later turns leave out
    stop: Literal["end", "length", "interrupted"] = "interrupted"

    def __iter__(self) -> Iterator[Piece]:
        return self.source

    @property
    def n_kept(self) -> int:
        """Tokens of the conversation with this reply in it."""
        return self.n_prompt + self.n_tokens - self.n_thinking

    def mark(self, answer: str) -> str | None:
        """What is to be said behind an answer that isn't whole."""
        within = "" if answer.strip() else " within its thinking" if self.n_tokens else " before it began"
        if self.stop == "interrupted":
            return f"stopped{within}"
        if self.stop == "end":
            return "no answer: the reply ended" + within if within else None
        if self.n_prompt + self.n_tokens >= self.context:
            return f"cut{within}: the context of {self.context} tokens is full"
        return f"cut{within} after {self.n_tokens} tokens; --max-tokens allows more"


@dataclass
class Bot:
    """What `serve.terminal` talks to.  By default greedy: small models say the right thing first."""

    model: Transformer
    tokenizer: Tokenizer
    _: KW_ONLY
    sampling: Sampling = Sampling(temperature=0.0)
    max_new_tokens: int = 512
    seed: int = 0
    n_replies: int = 0
    engine: Engine = field(init=False, repr=False)  # keeps what it has read of the conversation

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"longest reply = {self.max_new_tokens}; expected 1 token or more")
        self.engine = Engine(self.model, Limits(rows=ROWS))

    @property
    def marks_thinking(self) -> bool:
        return self.tokenizer.layout.think_id is not None

    def stream(self, messages: layout.Conversation, *, think: bool | None, stop: Callable[[], bool]) -> Reply:
        """The reply; asks `stop` about once a token and ends soon after it says True.

        Where the context is full, the oldest turns are left out, never the system prompt.
        """
        prompt = self.fit(messages, think)
        self.n_replies += 1
        request = Request(
            prompt.ids,
            self.max_new_tokens,
            stop_ids=self.tokenizer.layout.turn_ends,
            sampling=self.sampling,
            seed=self.seed + self.n_replies,
        )
        reply = Reply(iter(()), len(prompt.ids), prompt.n_forgotten, self.model.spec.context)
        tokens = stream(self.engine, request, stop)
        ids = _counted(reply, tokens, self.tokenizer.layout, prompt.thinking)
        reply.source = pieces(ids, self.tokenizer, thinking=prompt.thinking)
        return reply

    def fit(self, messages: layout.Conversation, think: bool | None) -> layout.Rendered:
        """As many of the latest turns as leave a quarter of the context for the reply."""
        context = self.model.spec.context
        (prompt,) = layout.render_latest(self.tokenizer, [messages], self.room, generate=True, think=think)
        if len(prompt.ids) >= context:
            raise DataError(
                f"the question has {len(prompt.ids)} tokens with its frame; expected fewer than the model's "
                f"context of {context}; shorten it"
            )
        return prompt

    @property
    def room(self) -> int:
        """Tokens that a conversation may have before its oldest turns are left out."""
        context = self.model.spec.context
        return context - min(self.max_new_tokens, context // 4)


def _counted(reply: Reply, tokens: Iterator[Token], marks: layout.Layout, thinking: bool) -> Iterator[int]:
    """The ids, while the reply is told how many they are and why they ended."""
    for token in tokens:
        thinking = (thinking or token.id == marks.think_id) and token.id != marks.end_think_id
        reply.n_tokens += 1
        reply.n_thinking += thinking
        if token.stop:
            reply.stop = "end" if token.stop != "length" else "length"
        yield token.id
