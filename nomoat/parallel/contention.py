"""Threads that wait politely while other processes want the processor.

At the end of each parallel operation torch's threads wait for each other in libgomp, by default in a loop
that tests and tests for milliseconds.  Alone that is fastest.  Beside other work it burns the time that the
late thread waits for: a step then takes many times what is fair.  libgomp goes to sleep at once instead
while the process holds more threads for parallel work than there are processors.  So as long as ours stand
in the processor's queue, a second team of them is held, which does nothing.  The number of threads that
compute stays what it was, and so do all bits.
"""

import contextlib
import threading
import time
from pathlib import Path
from types import TracebackType

import torch

CROWDED = 0.1  # seconds in the queue, all threads together, for each second that passes
LOOK_SECONDS = 0.25
CALM_LOOKS = 8  # quiet looks in a row before the threads spin again


class Polite:
    """`with Polite():` around work in several threads.  Does nothing for one thread, or where Linux tells
    no queue."""

    def __enter__(self) -> "Polite":
        self.over, self.release, self.calm = threading.Event(), None, 0
        self.looks = threading.Thread(target=self._look, name="polite", daemon=True)
        if torch.get_num_threads() > 1 and queued_seconds() is not None:
            self.looks.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over.set()
        if self.looks.ident is not None:
            self.looks.join()

    def _look(self) -> None:
        before, then = queued_seconds(), time.perf_counter()
        while not self.over.wait(LOOK_SECONDS):
            queued, now = queued_seconds(), time.perf_counter()
            crowded = queued - before > CROWDED * (now - then)
            before, then = queued, now
            self.calm = 0 if crowded else self.calm + 1
            if crowded and self.release is None:
                self.release = threading.Event()
                threading.Thread(target=_hold_team, args=(self.release,), name="team", daemon=True).start()
            elif self.calm >= CALM_LOOKS:
                self._let_go()
        self._let_go()

    def _let_go(self) -> None:
        if self.release is not None:
            self.release.set()
            self.release = None


def _hold_team(release: threading.Event) -> None:
    torch.ones(1 << 20).add_(1)  # large enough for several threads: they belong to this one until it ends
    release.wait()


def queued_seconds() -> float | None:
    """How long this process's threads have been ready to run without a processor, summed; None where
    nothing tells."""
    if not Path("/proc/self/schedstat").exists():
        return None
    total = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
            total += int((task / "schedstat").read_text().split()[1])
    return total / 1e9
