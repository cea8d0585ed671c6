"""A model to talk to: from messages to pieces of text.  render -> stream -> pieces."""

from collections.abc import Callable, Iterator
from pathlib import Path

from nomoat.config import DataError, UserError, WeightsError
from nomoat.engine import engine
from nomoat.model.transformer import Transformer
from nomoat.run.directory import Run
from nomoat.serve import loading
from nomoat.tokenizer import layout
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.pieces import Piece, pieces


class Bot:
    """What `serve.terminal` talks to.  Temperature 0 is greedy: small models say the right thing first."""

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, *, temperature: float = 0.0, max_new_tokens: int = 512, seed: int = 0
    ) -> None:
        if temperature < 0:
            raise UserError(f"temperature = {temperature}; expected 0 (greedy) or more")
        self.model, self.tokenizer = model, tokenizer
        self.temperature, self.max_new_tokens, self.seed = temperature, max_new_tokens, seed
        self._replies = 0

    def stream(self, messages: list[layout.Message], *, think: bool | None, stop: Callable[[], bool]) -> Iterator[Piece]:
        """Pieces of the reply.  Where the context is full, the oldest turns are left out, never the system prompt."""
        ids = self.fit(messages, think)
        self._replies += 1
        new_ids = engine.stream(
            self.model, ids, max_new_tokens=self.max_new_tokens, temperature=self.temperature,
            seed=self.seed + self._replies, stop_ids=sorted(self.tokenizer.layout.turn_ends), should_stop=stop,
        )  # fmt: skip
        return pieces(new_ids, self.tokenizer, thinking=think is True)

    def fit(self, messages: list[layout.Message], think: bool | None) -> list[int]:
        """The ids of as many of the latest turns as leave a quarter of the context for the reply."""
        context = self.model.spec.context
        room = context - min(self.max_new_tokens, context // 4)
        system, turns = ([messages[0]], messages[1:]) if messages[0].role == "system" else ([], messages)
        while True:
            ids = layout.render(self.tokenizer, [*system, *turns], generate=True, think=think).ids
            if len(ids) <= room or len(turns) <= 1:
                break
            turns = turns[2:]
        if len(ids) >= context:
            raise DataError(f"the question has {len(ids)} tokens with its frame; expected fewer than the model's "
                            f"context of {context}; shorten it")  # fmt: skip
        return ids


def load(directory: str | Path, *, stage: str | None = None, **settings) -> Bot:
    """The bot in a run or an exported directory; without `stage`, the one that the run's evaluation found best."""
    loaded = loading.load(directory, stage=stage or best_stage(directory))
    if loaded.tokenizer is None:
        raise WeightsError(f"{directory} has no tokenizer.json; expected one beside the weights; export them together")
    if loaded.tokenizer.vocab_size > loaded.model.spec.vocab_size:
        sizes = f"{loaded.tokenizer.vocab_size} tokens and the model {loaded.model.spec.vocab_size}"
        raise WeightsError(f"the tokenizer in {directory} has {sizes}: they do not belong together; "
                           "restore the one that it was trained with")  # fmt: skip
    return Bot(loaded.model, loaded.tokenizer, **settings)


def best_stage(directory: str | Path) -> str | None:
    """The stage with the highest mean accuracy in the run's own evaluation; None where there is none."""
    root = Path(directory)
    if not (root / "events.jsonl").is_file():
        return None
    means = [e["outputs"]["means"] for e in Run.open(root).events("stage_end") if e["outputs"].get("means")]
    return max(means[-1], key=means[-1].get) if means else None
