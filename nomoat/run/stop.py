"""How a run is asked to stop, and how it says that it did."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class Interrupted(Exception):
    """A stage saved its state and stopped because a signal asked for it; the same command goes on from there.
    """


class Stop:
    """`with Stop() as stop:` turns SIGTERM, SIGINT and SIGHUP into `stop.requested`; a second signal ends the
    process.

    Only the main thread can take signals; elsewhere `requested` simply stays as it is set.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                    self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self.requested:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.requested = True
