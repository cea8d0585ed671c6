"""From ids as they come to text as it becomes whole."""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from nomoat.tokenizer.bpe import Tokenizer


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    kind: Literal["thinking", "answer"]
    n_tokens: int  # of this piece


def pieces(ids: Iterable[int], tokenizer: Tokenizer, *, thinking: bool) -> Iterator[Piece]:
    """Ids as they come -> text as it becomes whole UTF-8; `thinking` says whether the prompt opened a think
    block.
    """
    layout = tokenizer.layout
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    kind, n_tokens = "thinking" if thinking else "answer", 0
    first = tokenizer.drops_first_blank
    for id in ids:
        n_tokens += 1
        ends = id in layout.turn_ends or id in (layout.think_id, layout.end_think_id)
        new_bytes = tokenizer.token_bytes(id)
        if first and new_bytes:
            new_bytes, first = new_bytes.removeprefix(b" "), False
        text = decoder.decode(new_bytes, final=ends)
        if text:
            yield Piece(text, kind, n_tokens)
            n_tokens = 0
        if id in layout.turn_ends:
            return
        if id in (layout.think_id, layout.end_think_id):
            kind = "thinking" if id == layout.think_id else "answer"
    if text := decoder.decode(b"", final=True):
        yield Piece(text, kind, n_tokens)
