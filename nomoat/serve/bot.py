"""A model to talk to: from messages to pieces of text.  render -> stream -> pieces."""

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, field

from nomoat.config import DataError, UserError
from nomoat.engine.engine import Engine, Limits
from nomoat.engine.generate import stream
from nomoat.engine.request import Request, Sampling
from nomoat.model.transformer import Transformer
from nomoat.tokenizer import layout
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.pieces import Piece, pieces

ROWS = 4  # as many conversations of the whole context stay in the cache


@dataclass
class Bot:
    """What `serve.terminal` talks to.  Temperature 0 is greedy: small models say the right thing first."""

    model: Transformer
    tokenizer: Tokenizer
    _: KW_ONLY
    temperature: float = 0.0
    max_new_tokens: int = 512
    seed: int = 0
    n_replies: int = 0
    engine: Engine = field(init=False, repr=False)  # keeps what it has read of the conversation

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise UserError(f"temperature = {self.temperature}; expected 0 (greedy) or more")
        self.engine = Engine(self.model, Limits(rows=ROWS))

    @property
    def marks_thinking(self) -> bool:
        return self.tokenizer.layout.think_id is not None

    def stream(
        self, messages: layout.Conversation, *, think: bool | None, stop: Callable[[], bool]
    ) -> Iterator[Piece]:
        """Pieces of the reply; asks `stop` about once a token and ends soon after it says True.

        Where the context is full, the oldest turns are left out, never the system prompt.
        """
        prompt = self.fit(messages, think)
        self.n_replies += 1
        request = Request(
            prompt.ids,
            self.max_new_tokens,
            stop_ids=self.tokenizer.layout.turn_ends,
            sampling=Sampling(self.temperature),
            seed=self.seed + self.n_replies,
        )
        tokens = stream(self.engine, request, stop)
        return pieces((token.id for token in tokens), self.tokenizer, thinking=prompt.thinking)

    def fit(self, messages: layout.Conversation, think: bool | None) -> layout.Rendered:
        """As many of the latest turns as leave a quarter of the context for the reply."""
        context = self.model.spec.context
        room = context - min(self.max_new_tokens, context // 4)
        n_system = int(messages[0].role == "system")
        system, turns = messages[:n_system], messages[n_system:]
        while True:
            prompt = layout.render(self.tokenizer, [*system, *turns], generate=True, think=think)
            if len(prompt.ids) <= room or len(turns) <= 1:
                break
            turns = turns[2:]
        if len(prompt.ids) >= context:
            raise DataError(
                f"the question has {len(prompt.ids)} tokens with its frame; expected fewer than the model's "
                f"context of {context}; shorten it"
            )
        return prompt
