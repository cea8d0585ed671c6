"""Tokens of one choice -> deltas of text, its stop strings cut away."""

from collections.abc import Iterator, Sequence

from nomoat.engine.request import Token
from nomoat.serve.asked import Asked, Delta
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.pieces import Reader


class Reply:
    """Reads the tokens of choice `number`.

    What may be the beginning of a stop string is held back until that is decided.
    """

    def __init__(self, asked: Asked, number: int, tokenizer: Tokenizer):
        self.number, self.asked = number, asked
        self.stops = asked.requests[0].stop
        self.reader = Reader(tokenizer, thinking=asked.thinking, spelled=asked.spelled)
        self.held, self.kind = "", self.reader.kind
        self.tokens: list[Token] = []  # whose text is not told yet
        self.n_thinking = 0

    def read(self, token: Token) -> Iterator[Delta]:
        """What can be told with this token; the last delta of a choice says how it ended."""
        self.tokens.append(token)
        before = self.reader.kind
        self.n_thinking += before == "thinking"
        if piece := self.reader.read(token.id):
            yield from self.add(piece.text)
        if self.reader.kind != before:  # a mark stands between the two
            yield self.delta(self.held)
            self.held, self.kind = "", self.reader.kind
        if token.stop:
            if rest := self.reader.end():
                yield from self.add(rest.text)
            text = self.held.partition(self.first_stop())[0] if token.stop == "stop" else self.held
            self.held = ""
            yield self.delta(text, "length" if token.stop == "length" else "stop")

    def cut(self) -> Delta:
        """The end of a reply that is given up."""
        return self.delta(self.held, "length")

    def add(self, text: str) -> Iterator[Delta]:
        self.held += text
        if self.tokens[-1].stop:
            return
        told = len(self.held) - n_held(self.held, self.stops)
        text, self.held = self.held[:told], self.held[told:]
        if text:
            yield self.delta(text)

    def first_stop(self) -> str:
        """The stop string that the text holds first; where none is whole in it, none is cut: "\0"."""
        places = [(self.held.find(stop), stop) for stop in self.stops if stop in self.held]
        return min(places)[1] if places else "\0"

    def delta(self, text: str, finish: str | None = None) -> Delta:
        tokens, self.tokens = tuple(self.tokens), []
        return Delta(self.number, text, self.kind, tokens, finish)


def n_held(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of a text may be the beginning of a stop string."""
    longest = max(map(len, stops), default=1) - 1
    for n in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-n:]) for stop in stops):
            return n
    return 0
