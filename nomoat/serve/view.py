"""How a reply shows itself in a terminal.

What a model says is data: control characters are spelled out before they reach a terminal.
"""

import time

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType

from nomoat.files import visible
from nomoat.tokenizer.pieces import Piece


class View:
    """Shows one reply as it comes: its thinking folded into one line, or spread out, and then its answer."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal and not console.is_dumb_terminal
        self._began = time.monotonic()
        self._expanded = self._thought = False
        self._n_tokens = self._n_shown = 0  # thinking: its tokens, and its characters on the screen
        self.thinking = self.answer = ""

    def piece(self, piece: Piece) -> None:
        if piece.kind == "answer":
            self._end_thinking()
            self._write(piece.text if self.answer.strip() else piece.text.lstrip())
            self.answer += piece.text
            return
        self.thinking += piece.text
        self._n_tokens += piece.n_tokens
        if self._expanded:
            self._spread()
        elif self._live:
            self._erase()
            self._write(f"thinking {self._cost()}"[: self._console.width - 1], "dim")

    def expand(self) -> None:
        """Ctrl-T: spread the thinking out from now on, or once the answer has come."""
        self._expanded = True
        if not self._thought:
            self._erase()
            self._spread()

    def close(self, mark: str | None) -> None:
        """`mark`: what is to be said of an answer that isn't whole."""
        self._end_thinking()
        if mark:
            self._write(f"{' ' if self.answer else ''}[{mark}]", "dim")
        self._write("\n")
        if self._expanded and self._n_shown < len(self.thinking):
            self._spread()
            self._write("\n")

    def _end_thinking(self) -> None:
        if self.thinking and not self._thought:
            if self._expanded:
                self._write("\n")
            else:
                self._erase()
            self._write(f"thought {self._cost()}\n", "dim")
        self._thought = True

    def _cost(self) -> str:
        hint = "" if self._expanded else "  (Ctrl-T or /show to expand)"
        return f"{self._n_tokens} tokens · {time.monotonic() - self._began:.1f} s{hint}"

    def _spread(self) -> None:
        self._write(self.thinking[self._n_shown :], "dim")
        self._n_shown = len(self.thinking)

    def _erase(self) -> None:
        if self._live:
            self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))

    def _write(self, text: str, style: str | None = None) -> None:
        self._console.print(visible(text), style=style, end="")
        self._console.file.flush()
