"""The text of a comparison: the same tokens, tokenizer and held-out bytes for every arm."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.config import ConfigError, Count, Strict, Weight, Whole, parse
from nomoat.data import documents, shards
from nomoat.data.packing import Packed
from nomoat.evals.bits import held_out
from nomoat.files import new_directory
from nomoat.lab.series import kept
from nomoat.tasks import base, find
from nomoat.tokenizer import bpe
from nomoat.tokenizer.bpe import Tokenizer

N_TOKENIZER_PROBLEMS, N_WORKED_PROBLEMS = 10_000, 45_000


class Contents(Strict):
    """`text`, by default what ships; `shares` may mix in worked `tasks`."""

    vocab_size: Count = 2048
    text: str | None = None
    shares: dict[str, Weight] = {"prose": 1.0}
    tasks: dict[str, list[Whole]] = {}


@dataclass(frozen=True)
class Corpus:
    """Tokens of the shared data, its tokenizer, the held-out text, and the tasks that arms are judged by."""

    tokenizer: Tokenizer
    shards: Mapping[str, shards.Shard]
    shares: Mapping[str, float]
    held: Mapping[str, list[str]]
    tasks: Mapping[str, list[int]]

    @classmethod
    def make(cls, root: Path, *, heldout_bytes: int | None = None, **contents: Any) -> "Corpus":
        """Made once in `root` of Contents, then read; `heldout_bytes` of each language."""
        made_of = parse(Contents, contents, "corpus")
        asked = made_of.model_dump()
        if made_of.text is not None:
            asked["sha256"] = documents.sha256(documents.text(made_of.text, None))
        found = kept(root / "asked.json", lambda: asked)
        if found != json.loads(json.dumps(asked)):
            raise ConfigError(
                f"{root} was made of other text ({found}); expected {asked}; choose another --out, or "
                "remove it"
            )
        if not (root / "tokenizer").exists():
            trained = bpe.train(_tokenizer_texts(made_of), made_of.vocab_size)
            with new_directory(root / "tokenizer") as directory:
                trained.save(directory)
        tokenizer = Tokenizer.load(root / "tokenizer")
        for kind in made_of.shares:
            if not (root / kind).exists():
                shards.write(root / kind, _documents(kind, made_of, tokenizer), tokenizer.vocab_size)
        opened = {kind: shards.open(root / kind) for kind in made_of.shares}
        return cls(tokenizer, opened, made_of.shares, held_out(heldout_bytes), made_of.tasks)

    def packed(self, T: int, seed: int) -> Packed:
        return Packed(self.shards, self.shares, T, seed)


def _tokenizer_texts(made_of: Contents) -> list[str]:
    texts = [document.text for document in documents.text(made_of.text, None)]
    if made_of.tasks:
        for family, _, problem in documents.problems(made_of.tasks, N_TOKENIZER_PROBLEMS, 0):
            texts += base.worked(find.find(family), problem)
    return texts


def _documents(kind: str, made_of: Contents, tokenizer: Tokenizer) -> Iterable[Any]:
    if kind == "tasks":
        return documents.worked(made_of.tasks, N_WORKED_PROBLEMS, 1.0, tokenizer, 0)
    return documents.prose(documents.text(made_of.text, None), tokenizer)
