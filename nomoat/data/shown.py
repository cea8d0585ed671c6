"""What training on a file learns from: each document as tokens, and which of them are targets of the loss."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from nomoat.data import documents, sources
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import Rendered

LEARNT, READ = "+", " "  # in front of what is a target, and of what is only read


def show(path: str | Path, tokenizer: Tokenizer, limit: int, width: int = 110) -> Iterator[str]:
    """Lines for a person: the first `limit` documents, `+` in front of what is learnt, and how much it is."""
    chosen = itertools.islice(sources.from_path(path), limit)
    for number, document in enumerate(documents.prose(chosen, tokenizer), 1):
        n_tokens = len(document.ids)
        n_learnt = sum(document.trained)
        yield f"document {number}: {n_tokens:,} tokens, {n_learnt:,} learnt"
        for learnt, text in spans(document, tokenizer):
            for line in text.split("\n"):
                mark = LEARNT if learnt else READ
                yield f"  {mark} {line[: width - 4]}"
        yield ""


def is_learnt(line: str) -> bool:
    """Whether a line of `show` is what is learnt."""
    return line.startswith(f"  {LEARNT} ")


def spans(document: Rendered, tokenizer: Tokenizer) -> Iterator[tuple[bool, str]]:
    """(whether it is learnt, text) of each stretch of tokens, special tokens shown."""
    for learnt, pairs in itertools.groupby(zip(document.trained, document.ids), key=lambda pair: pair[0]):
        yield learnt, tokenizer.decode([id for _, id in pairs], specials=True)
