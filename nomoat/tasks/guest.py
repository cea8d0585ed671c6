"""Code of a person's own: a file as a module, and calls whose faults are told instead of raised.

It runs with your rights.  This is the one place of the tasks where anything may be caught: what a stranger's
function raises is his, and has to be told with his file and line.
"""

import dis
import functools
import threading
import warnings
from _signal import ITIMER_REAL, SIGALRM, setitimer, signal  # without naming handlers: 4 µs each
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import iscoroutine
from pathlib import Path
from types import ModuleType
from typing import Any

from nomoat.config import TaskError, UserError
from nomoat.run.stop import Ended
from nomoat.tasks import ambient
from nomoat.tasks.base import Undecided
from nomoat.tasks.trl import module_of, told

LONGEST_SECONDS = 300.0  # of one call


@dataclass(frozen=True, slots=True)
class Fault:
    """What a call raised: the kind of the error, and its words with file and line."""

    kind: str
    words: str


class Raised(Exception):
    """What a call raised in another process."""

    def __init__(self, kind: str, words: str):
        super().__init__(words)
        self.kind, self.words = kind, words


def attempt(function: Callable, *args: Any, **named: Any) -> Any:
    """What the function gives, or the Fault that it raised; Undecided, a UserError, a signal's end pass.

    What the process shares stays as it is, see ambient.py: what changes it is a Fault.  TaskError where it
    takes longer than LONGEST_SECONDS.
    """
    name = f"{getattr(function, '__module__', '')}: {getattr(function, '__name__', type(function).__name__)}"
    if threading.current_thread() is not threading.main_thread():
        return _waited_for(name, functools.partial(_attempt, function, *args, **named))
    with _limited(name):
        return _attempt(function, *args, **named)


def _attempt(function: Callable, *args: Any, **named: Any) -> Any:
    ambient.KEEPER.enter()
    try:
        given = function(*args, **named)
        if iscoroutine(given):
            given.close()
            given = Fault("TypeError", "it is async; expected a function that gives its answer: drop `async`")
    except (Undecided, UserError, Ended):
        raise
    except Raised as error:
        given = Fault(error.kind, error.words)
    except KeyboardInterrupt as error:
        if not _by_statement(error):  # a person at the keyboard
            raise
        given = Fault(type(error).__name__, told(error))
    except BaseException as error:
        given = Fault(type(error).__name__, told(error))
    finally:
        changed = ambient.KEEPER.leave()
    return Fault(*changed) if changed else given


def _waited_for(name: str, work: Callable[[], Any]) -> Any:
    """What the work gives or raises, in a thread that nobody waits for where it takes too long."""
    done: Future = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    if not wait([done], LONGEST_SECONDS).done:
        raise too_slow(name, LONGEST_SECONDS)
    return done.result()


def _by_statement(error: BaseException) -> bool:
    """Whether a `raise` raised the error, and no signal."""
    last = error.__traceback__
    while last.tb_next:
        last = last.tb_next
    return dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]] == "RAISE_VARARGS"


@contextmanager
def _limited(name: str) -> Iterator[None]:
    """TaskError where what is within takes too long: an alarm wakes the main thread."""

    def ring(*_: object) -> None:
        raise too_slow(name, LONGEST_SECONDS)

    before = signal(SIGALRM, ring)
    setitimer(ITIMER_REAL, LONGEST_SECONDS)
    try:
        yield
    finally:
        setitimer(ITIMER_REAL, 0)
        signal(SIGALRM, before)


def too_slow(name: str, seconds: float) -> TaskError:
    """The error for a call that doesn't come back."""
    expected = f"expected it within {seconds:g} seconds a call"
    return TaskError(f"{name} has not come back; {expected}; mend it; the checkpoints are kept")


def total(check: Callable, name: str) -> Callable:
    """A `check` that never raises: what it raises over is wrong, and each kind of error is warned of once.

    `raw` gives the one that it was made from.
    """
    heard = set()

    @functools.wraps(check)
    def decided(problem: Any, answer: str) -> bool:
        verdict = attempt(check, problem, answer)
        if not isinstance(verdict, bool):
            kind = verdict.kind if isinstance(verdict, Fault) else type(verdict).__name__
            what = f"raises ({verdict.words})" if isinstance(verdict, Fault) else f"gives {verdict!r:.80}"
            if kind not in heard:
                heard.add(kind)
                warnings.warn(f"{name}: check {what}; the answer counts as wrong", stacklevel=2)
        return verdict is True

    decided.raises = check
    return decided


def raw(check: Callable) -> Callable:
    """The check as it was written."""
    return getattr(check, "raises", check)


def strict(
    function: Callable, name: str, kind: type, wrong: Callable[[Any], str] = lambda value: ""
) -> Callable:
    """The function, with a TaskError where it raises, or gives an empty list, something else than a `kind`,
    or one of which `wrong` says what is.
    """

    @functools.wraps(function)
    def given(*args: Any) -> Any:
        value = attempt(function, *args)
        what = value.words if isinstance(value, Fault) else f"it gave {value!r:.80}"
        if isinstance(value, kind) and value != []:
            what = wrong(value)
            if not what:
                return value
        raise TaskError(f"{name} fails ({what}); expected a {kind.__name__}; mend it")

    return given


def module_at(path: Path, expected: str) -> ModuleType:
    """The Python file as a module; it may import its neighbours.  TaskError with its line where it fails."""
    given = attempt(module_of, path)
    if isinstance(given, Fault):
        raise TaskError(f"{path} fails ({given.words}); expected {expected}; mend that line")
    return given
