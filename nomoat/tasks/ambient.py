"""What a whole process shares, kept as it is while a person's code runs in it.

The working directory, the environment, the handlers of signals, torch's defaults and threads belong to the
run: a change is undone, and told.  Seeds are nobody's: nothing here draws from Python's, numpy's or torch's
own streams.  What is written to stdout goes to stderr, and no end of the process is taken (os._exit).
"""

import functools
import os
import signal
import sys
import threading
from _signal import getsignal  # signal's own takes 4 µs to name a handler
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OF_TORCH = {  # what is asked, and how it is set back
    "get_default_dtype": "set_default_dtype",
    "get_num_threads": "set_num_threads",
    "is_grad_enabled": "set_grad_enabled",
    "are_deterministic_algorithms_enabled": "use_deterministic_algorithms",
    "get_float32_matmul_precision": "set_float32_matmul_precision",
}


class State(NamedTuple):
    place: str | None  # None where the working directory was removed meanwhile
    environment: dict[bytes, bytes]
    handlers: list[Any]
    torch: dict[str, Any] | None  # None where torch is not loaded


def _state() -> State:
    torch = sys.modules.get("torch")
    settings = {name: getattr(torch, name)() for name in OF_TORCH if hasattr(torch, name)} if torch else None
    return State(_place(), os.environ._data.copy(), list(map(getsignal, SIGNALS)), settings)


def _place() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _restored(before: State) -> tuple[str, str] | None:
    """Undoes what has changed since, and gives the (kind, words) of the first change, if there is one."""
    found = list(_changes(before, _state()))
    for _, _, undo in found:
        undo()
    return found[0][:2] if found else None


def _changes(before: State, after: State) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """(kind, words, what undoes it) of each change."""
    if before.place is not None and after.place != before.place:
        words = f"it changes the working directory to {after.place}; use whole paths"
        yield "chdir", words, lambda: os.chdir(before.place)
    if after.environment != before.environment:
        names = ", ".join(_differing(before.environment, after.environment))
        words = f"it changes the environment ({names}); set it where the command is started"
        yield "environ", words, lambda: _environment_back(before.environment)
    if after.handlers != before.handlers:
        words = "it changes what signals do, which end the command; leave them"
        yield "signal", words, lambda: _handlers_back(before.handlers)
    if before.torch and after.torch:
        yield from _changes_of_torch(before.torch, after.torch)


def _differing(a: dict[bytes, bytes], b: dict[bytes, bytes]) -> list[str]:
    return sorted({os.fsdecode(name) for name, _ in a.items() ^ b.items()})


def _changes_of_torch(before: dict, after: dict) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    for name, value in before.items():
        if after.get(name) != value:
            setter = OF_TORCH[name]
            undo = functools.partial(getattr(sys.modules["torch"], setter), value)
            yield "torch", f"it calls torch.{setter}, which changes the run; leave it", undo


def _environment_back(before: dict[bytes, bytes]) -> None:
    for name in set(os.environb) - set(before):
        del os.environb[name]
    os.environb.update(before)


def _handlers_back(before: list[Any]) -> None:
    with suppress(ValueError):  # another thread can't have changed them
        for number, handler in zip(SIGNALS, before):
            signal.signal(number, handler)


class Left(BaseException):
    """An end of the process that was not taken."""


class Keeper:
    """Keeps it from the first guest that comes in to the last that goes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.guests: list[int] = []  # threads

    def enter(self) -> None:
        with self.lock:
            if not self.guests:
                self.before, self.pid = _state(), os.getpid()
                self.end, self.stdout, self.kept = os._exit, sys.stdout, _moved()
                os._exit, sys.stdout = self._leave, sys.stderr
            self.guests.append(threading.get_ident())

    def leave(self) -> tuple[str, str] | None:
        """(kind, words) of what was changed meanwhile, which is undone."""
        with self.lock:
            self.guests.remove(threading.get_ident())
            changed = _restored(self.before)
            if not self.guests:
                os._exit, sys.stdout = self.end, self.stdout
                if self.kept is not None:
                    os.dup2(self.kept, 1)
                    os.close(self.kept)
        return changed

    def _leave(self, code: int) -> None:
        """Ends what is no guest: a child, a thread of the command's."""
        if os.getpid() != self.pid or threading.get_ident() not in self.guests:
            self.end(code)
        raise Left(f"it ends the process (exit code {code})")


KEEPER = Keeper()


def _moved() -> int | None:
    """Sends descriptor 1 to where 2 goes; a copy of what it was, if it was open."""
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:
        return None
    return kept
