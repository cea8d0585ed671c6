"""From ids as they come to text as it becomes whole."""

import codecs
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from nomoat.tokenizer.bpe import Tokenizer

Kind = Literal["thinking", "answer"]


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    kind: Kind
    n_tokens: int  # of this piece


class Reader:
    """Reads the ids of one reply; `thinking` says whether the prompt opened a think block.

    Control ids are left out, but for those in `spelled`; a think mark that is spelled parts nothing.
    """

    def __init__(self, tokenizer: Tokenizer, *, thinking: bool, spelled: Collection[int] = ()):
        self.tokenizer, layout = tokenizer, tokenizer.layout
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.kind: Kind = "thinking" if thinking else "answer"
        self.n_tokens = 0  # since the last piece
        self.first = tokenizer.drops_first_blank
        names = layout.specials.items()
        self.spelled = {id: text for text, id in names if id in spelled}
        self.marks = {layout.think_id, layout.end_think_id}
        self.marks -= {None, *spelled}

    def read(self, id: int) -> Piece | None:
        """The text that is whole with this id."""
        layout = self.tokenizer.layout
        self.n_tokens += 1
        ends = id in layout.turn_ends or id in self.marks
        new_bytes = self.spelled[id].encode() if id in self.spelled else self.tokenizer.token_bytes(id)
        if self.first and new_bytes:
            new_bytes, self.first = new_bytes.removeprefix(b" "), False
        piece = self.piece(self.decoder.decode(new_bytes, final=ends))
        if id in self.marks:
            self.kind = "thinking" if id == layout.think_id else "answer"
        return piece

    def end(self) -> Piece | None:
        """What is left where no more ids come."""
        return self.piece(self.decoder.decode(b"", final=True))

    def piece(self, text: str) -> Piece | None:
        if not text:
            return None
        n_tokens, self.n_tokens = self.n_tokens, 0
        return Piece(text, self.kind, n_tokens)


def pieces(ids: Iterable[int], tokenizer: Tokenizer, *, thinking: bool) -> Iterator[Piece]:
    """Ids as they come -> text as it becomes whole UTF-8; `thinking` says whether the prompt opened a think
    block.
    """
    reader = Reader(tokenizer, thinking=thinking)
    for id in ids:
        if piece := reader.read(id):
            yield piece
        if id in tokenizer.layout.turn_ends:
            return
    if piece := reader.end():
        yield piece
