"""How a run is asked to stop, how it says that it heard, and how it says that it did."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

HEARD = "heard: stops at the next place that it can go on from; once more ends it at once"
END = b"\0"  # no signal
GRACE_SECONDS = 0.5  # for Python to end the process by itself


def silent(_: str) -> None:
    """Says nothing."""


class Interrupted(Exception):
    """A stage saved its state and stopped because a signal asked for it; the same command goes on from there,
    on so many ranks; `told` as in UserError.
    """

    told, n_ranks = False, 1


class Ended(SystemExit):
    """A signal asked a command to end that has nothing to save."""


def end(number: int, _: FrameType | None) -> None:
    """Handles a signal: what was being written is cleared away on the way out."""
    raise Ended(128 + number)


class Stop:
    """`with Stop() as stop:` turns SIGTERM, SIGINT and SIGHUP into `stop.requested`; a second signal ends the
    process.

    `say` is told at once that the first was heard, from a thread of its own: Python hears signals between two
    of its own steps, and a product or a training of a tokenizer may take long.  Only the main thread can take
    signals; elsewhere `requested` simply stays as it is set.  `leave` is called where that is not
    over `seconds` after the first: one of several ranks may wait for another that no longer answers.
    """

    def __init__(
        self,
        say: Callable[[str], None] = silent,
        leave: Callable[[], None] | None = None,
        seconds: float = 0.0,
    ) -> None:
        self.say = say
        self._late = threading.Timer(seconds, leave) if leave else None
        self.requested = False
        self.n_heard = 0
        self._before: dict[int, Any] = {}
        self._ears: _Ears | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                    self._before[number] = signal.signal(number, self._on_signal)
            self._ears = _Ears(self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._ears:
            self._ears.close()
            self._ears = None
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if self._late:
            self._late.cancel()

    def _hear(self, number: int) -> None:
        """In the thread: the first signal is answered; the second ends a process that is too busy to."""
        if number not in self._before:
            return
        self.n_heard += 1
        if self.n_heard == 1:
            self.say(HEARD)
            if self._late:
                self._late.daemon = True
                self._late.start()
        else:
            time.sleep(GRACE_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self.requested:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.requested = True


class _Ears:
    """A thread that hears each signal when it comes: the kernel's handler writes its number into a pipe."""

    def __init__(self, hear: Callable[[int], None]) -> None:
        self._hear = hear
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        os.register_at_fork(after_in_child=self._forget)  # a child's signals are its own

    def close(self) -> None:
        signal.set_wakeup_fd(self._before)
        os.write(self._write, END)
        self._thread.join()
        os.close(self._read)
        os.close(self._write)
        self._write = None

    def _listen(self) -> None:
        while (number := os.read(self._read, 1)) != END:
            self._hear(number[0])

    def _forget(self) -> None:
        if self._write is not None:
            signal.set_wakeup_fd(-1)
            os.close(self._write)
            os.close(self._read)
            self._write = None
