"""A conversation without a terminal: messages from a pipe, one a line, and how each is answered."""

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

from nomoat.config import DataError
from nomoat.files import PROSE, visible
from nomoat.serve.bot import Reply
from nomoat.tokenizer.pieces import Piece

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Answered:
    """What `--json` prints of a reply."""

    answer: str
    thinking: str
    stop: str  # "end", "length" or "interrupted", as Reply has it
    n_tokens: int

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


def whole(data: bytes) -> str:
    """One message; DataError where it is empty or no text."""
    message = _text(data, "standard input").strip()
    if not message:
        raise DataError("the prompt is empty; expected a question; write it after -p or pipe it in")
    return message


def messages(source: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """A message of each line that isn't blank, as soon as the line is there, behind what the line is called.

    DataError where there is none, or for a line that is no text; what stands before it was answered.
    """
    n = 0
    for number, line in enumerate(source, 1):
        called = f"line {number} of standard input"
        if message := _text(line, called).strip():
            n += 1
            yield called, message
    if not n:
        raise DataError("standard input is empty; expected a message a line; or write one after -p")


def _text(data: bytes, what: str) -> str:
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{what} is not UTF-8 at byte {error.start}; expected text; convert it") from None


class Printer:
    """Takes a reply as it comes: its thinking goes to `aside`, its answer to `out`, where there are such."""

    def __init__(self, out: Say | None = None, aside: Say | None = None) -> None:
        self._out, self._aside = out, aside
        self.answer = self.thinking = ""

    def piece(self, piece: Piece) -> None:
        if piece.kind == "thinking":
            self.thinking += piece.text
            if self._aside:
                self._aside(visible(piece.text))
            return
        if not self.answer:
            self.end_thinking()
        if self._out:
            self._out(visible(piece.text if self.answer.strip() else piece.text.lstrip()))
        self.answer += piece.text

    def end_thinking(self) -> None:
        """What comes behind it begins a line."""
        if self._aside and self.thinking:
            self._aside("\n")

    def line(self) -> str:
        """The answer as one line: line ends within it are spelled."""
        return visible(self.answer.strip(), PROSE.replace("\n", ""))

    def answered(self, reply: Reply) -> Answered:
        return Answered(self.answer.strip(), self.thinking, reply.stop, reply.n_tokens)
