"""The keyboard while an answer streams."""

import codecs
import contextlib
import os
import re
import select
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from types import FrameType

from nomoat.files import PROSE, visible

_SEQUENCE = re.compile(r"\x1b(\[[0-9;]*.|O.)")  # arrow and function keys, which begin with Esc and aren't Esc
ESCAPE, CTRL_T = "\x1b", "\x14"
KEPT = f"{PROSE}\x7f"  # and the backspace


class Keys:
    """Esc and Ctrl-C stop it, Ctrl-T calls `expand`, the rest waits in `typed`.

    A second Ctrl-C raises KeyboardInterrupt, for a model that doesn't ask.
    """

    def __init__(self, fd: int | None, expand: Callable[[], None] = lambda: None) -> None:
        self._fd = fd
        self._expand = expand
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self.stopped = False
        self.typed = ""

    def stop(self) -> bool:
        """Read what was typed; True once the answer is to stop."""
        while self._fd is not None and not self.stopped and select.select([self._fd], [], [], 0)[0]:
            data = os.read(self._fd, 1024)
            text = _SEQUENCE.sub("", self._decoder.decode(data))
            lines = text.replace("\r", "\n")
            self.typed += "".join(c for c in lines if visible(c, KEPT) == c)
            self.stopped = not data or ESCAPE in text
            if CTRL_T in text:
                self._expand()
        return self.stopped

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        before = signal.signal(signal.SIGINT, self._interrupt)
        cooked = termios.tcgetattr(self._fd) if self._fd is not None else None
        try:
            if cooked is not None:
                tty.setcbreak(self._fd, termios.TCSANOW)
            yield
        finally:
            if cooked is not None:
                termios.tcsetattr(self._fd, termios.TCSANOW, cooked)
            signal.signal(signal.SIGINT, before)
