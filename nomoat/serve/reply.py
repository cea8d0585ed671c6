"""Tokens of one choice -> deltas of text, its stop strings cut away."""

from collections.abc import Iterator, Sequence

from nomoat.engine.request import Token
from nomoat.serve import calls
from nomoat.serve.asked import Asked, Delta
from nomoat.serve.refusal import Refusal
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.pieces import Reader

TOO_MUCH = "the grammar takes too much to enforce: llguidance gave up in the middle; simplify it"


class Reply:
    """Reads the tokens of choice `number`.

    What may be the beginning of a stop string is held back until that is decided.
    """

    def __init__(self, asked: Asked, number: int, tokenizer: Tokenizer):
        self.number, self.asked = number, asked
        self.stops = asked.requests[0].stop
        self.reader = Reader(tokenizer, thinking=asked.thinking, spelled=asked.spelled)
        for id in asked.begun:
            self.reader.read(id)
        self.held = ""
        self.kind = self.reader.kind
        self.tokens: list[Token] = []  # whose text is not told yet
        self.n_thinking = 0
        self.grammar = asked.requests[0].grammar
        held = self.grammar is not None
        self.calls = None if asked.tools is None else calls.Reader(asked.tools, held=held)
        self.called: list[calls.Call] = []
        self.answer = ""  # which the grammar's schema looks at when it is whole

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
            if token.stop == "grammar":
                raise Refusal(TOO_MUCH, code="grammar_too_complex")
            delta = self.delta(text, "length" if token.stop == "length" else "stop")
            self.check(token)
            yield delta

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
        pieces: tuple[calls.Piece, ...] = ()
        tokens = tuple(self.tokens)
        self.tokens = []
        if self.kind == "answer" and self.calls:
            text, pieces = self.calls.read(text, last=finish is not None)
            self.check_calls(pieces)
        if self.kind == "answer" and self.grammar:
            self.answer += text
        if finish == "stop" and self.n_calls:
            finish = "tool_calls"
        return Delta(self.number, text, self.kind, tokens, finish, pieces)

    @property
    def n_calls(self) -> int:
        return self.calls.n_calls if self.calls else 0

    def check_calls(self, pieces: Sequence[calls.Piece]) -> None:
        """Refusal if the arguments of a whole call are not what was asked for."""
        for piece in pieces if self.grammar else ():
            calls.gather(self.called, piece)
            if piece.last:
                arguments = self.called[-1].arguments
                self.complain(self.grammar.wrong(arguments, piece.name), f"the call of {piece.name}")

    def check(self, token: Token) -> None:
        """Refusal if a finished text is not what was asked for."""
        if token.stop == "end" and self.grammar and not self.n_calls:
            self.complain(self.grammar.wrong(self.answer), "the reply")

    def complain(self, wrong: str | None, what: str) -> None:
        if wrong:
            message = f"{what} does not hold to its schema: {wrong}"
            raise Refusal(message, status=500, code="invalid_output")


def n_held(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of a text may be the beginning of a stop string."""
    longest = max(map(len, stops), default=1) - 1
    for n in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-n:]) for stop in stops):
            return n
    return 0
