"""What a whole process shares, kept as it is while a person's code runs in it.

The working directory, the environment, the handlers of signals, torch's defaults and threads belong to the
run: a change is undone, and told.  Seeds are nobody's: nothing here draws from Python's, numpy's or torch's
own streams.  What is written to stdout goes to stderr, and no end of the process is taken (os._exit).
"""

import os
import signal
import sys
import threading
from _signal import getsignal  # signal's own takes 4 µs to name a handler
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
OF_TORCH = {  # what is asked, and how it is set back
    "get_default_dtype": "set_default_dtype",
    "get_num_threads": "set_num_threads",
    "is_grad_enabled": "set_grad_enabled",
    "are_deterministic_algorithms_enabled": "use_deterministic_algorithms",
    "get_float32_matmul_precision": "set_float32_matmul_precision",
}
LOCK = threading.RLock()  # these are the process's: one guest at a time


class State(NamedTuple):
    place: str | None  # None where the working directory was removed meanwhile
    environment: dict[bytes, bytes]
    handlers: list[Any]
    torch: dict[str, Any] | None  # None where torch is not loaded


def state() -> State:
    torch = sys.modules.get("torch")
    settings = {name: getattr(torch, name)() for name in OF_TORCH if hasattr(torch, name)} if torch else None
    return State(_place(), os.environ._data.copy(), list(map(getsignal, SIGNALS)), settings)


def _place() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def restored(before: State) -> tuple[str, str] | None:
    """Undoes what has changed since, and gives the (kind, words) of the first change, if there is one."""
    found = list(_changes(before, state()))
    for _, _, undo in found:
        undo()
    return found[0][:2] if found else None


def _changes(before: State, after: State) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    if before.place is not None and after.place != before.place:
        words = f"it changes the working directory to {after.place}; use whole paths"
        yield "chdir", words, lambda: os.chdir(before.place)
    if after.environment != before.environment:
        names = {os.fsdecode(k) for k, _ in after.environment.items() ^ before.environment.items()}
        words = f"it changes the environment ({', '.join(sorted(names))}); set it where the command is started"
        yield "environ", words, lambda: _environment_back(before.environment)
    if after.handlers != before.handlers:
        words = "it changes what signals do, which end the command; leave them"
        yield "signal", words, lambda: _handlers_back(before.handlers)
    for name, value in (before.torch or {}).items():
        if (after.torch or {}).get(name) != value:
            setter = getattr(sys.modules["torch"], OF_TORCH[name])
            words = f"it calls torch.{OF_TORCH[name]}, which changes the run; leave it"
            yield "torch", words, lambda setter=setter, value=value: setter(value)


def _environment_back(before: dict[bytes, bytes]) -> None:
    for name in set(os.environb) - set(before):
        del os.environb[name]
    os.environb.update(before)


def _handlers_back(before: list[Any]) -> None:
    with suppress(ValueError):  # another thread can't have changed them
        for number, handler in zip(SIGNALS, before):
            signal.signal(number, handler)


class Aside:
    """Within, stdout is stderr, whoever writes to it, and this thread can't end the process."""

    def __enter__(self) -> None:
        self.guest, self.end, self.stdout = (os.getpid(), threading.get_ident()), os._exit, sys.stdout
        os._exit, sys.stdout = self._leave, sys.stderr
        self.kept = _moved()

    def __exit__(self, *_: object) -> None:
        os._exit, sys.stdout = self.end, self.stdout
        if self.kept is not None:
            os.dup2(self.kept, 1)
            os.close(self.kept)

    def _leave(self, code: int) -> None:
        if (os.getpid(), threading.get_ident()) != self.guest:  # a child's end, or a signal's
            self.end(code)
        raise SystemExit(code)


def _moved() -> int | None:
    """Sends descriptor 1 to where 2 goes; a copy of what it was, if it was open."""
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:
        return None
    return kept
