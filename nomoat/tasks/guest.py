"""Code of a person's own: a file as a module, and calls whose faults are told instead of raised.

It runs with your rights.  This is the one place of the tasks where anything may be caught: what a stranger's
function raises is his, and has to be told with his file and line.
"""

import dis
import functools
import importlib.util
import os
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

from nomoat.config import TaskError, UserError
from nomoat.run.stop import Ended
from nomoat.tasks.base import Undecided

LIBRARIES = (
    str(Path(__file__).parents[1]),
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What a call raised: the kind of the error, and its words with file and line."""

    kind: str
    words: str


def attempt(function: Callable, *args: Any, **named: Any) -> Any:
    """What the function gives, or the Fault that it raised; Undecided, a UserError, a signal's end pass.

    What it prints goes to stderr: stdout is the command's result.  A change of the working directory is
    undone, and a Fault: what the command reads and writes by relative paths would lie elsewhere.
    """
    place = _working_directory()
    try:
        with redirect_stdout(sys.stderr):
            given = function(*args, **named)
        moved = _working_directory()
        if moved == place:
            return given
        return Fault("chdir", f"it changes the working directory to {moved}; use whole paths")
    except (Undecided, UserError, Ended):
        raise
    except KeyboardInterrupt as error:
        if not _by_statement(error):  # a person at the keyboard
            raise
        return Fault(type(error).__name__, told(error))
    except BaseException as error:
        return Fault(type(error).__name__, told(error))
    finally:
        if place is not None and _working_directory() != place:
            os.chdir(place)


def _working_directory() -> str | None:
    """None where it was removed meanwhile."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _by_statement(error: BaseException) -> bool:
    """Whether a `raise` raised the error, and no signal."""
    last = error.__traceback__
    while last.tb_next:
        last = last.tb_next
    return dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]] == "RAISE_VARARGS"


def within(seconds: float, function: Callable, *args: Any, **named: Any) -> Any:
    """What the function gives or raises; TaskError where it takes longer.

    It works in a thread of its own, which nobody waits for any more then.
    """
    done: Future = Future()

    def work() -> None:
        try:
            done.set_result(function(*args, **named))
        except BaseException as error:
            done.set_exception(error)

    Thread(target=work, daemon=True).start()
    if not wait([done], seconds).done:
        raise too_slow(function, seconds)
    return done.result()


def too_slow(function: Callable, seconds: float) -> TaskError:
    """The error for a call that doesn't come back."""
    name = getattr(function, "__name__", type(function).__name__)
    expected = f"expected a verdict within {seconds:g} seconds a call"
    return TaskError(f"{name} has not come back; {expected}; mend it; the checkpoints are kept")


def told(error: BaseException) -> str:
    """The words of an error, with the last line of a person's own that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(("<frozen", *LIBRARIES))]
    where = f"{own[-1].filename}, line {own[-1].lineno}: " if own else ""
    words = " ".join(str(error).split())
    return f"{where}{type(error).__name__}: {words[:200]}" if words else f"{where}{type(error).__name__}"


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


def strict(function: Callable, name: str, kind: type) -> Callable:
    """The function, with a TaskError where it raises, or gives an empty list or something else than a `kind`.
    """

    @functools.wraps(function)
    def given(*args: Any) -> Any:
        value = attempt(function, *args)
        if isinstance(value, kind) and value != []:
            return value
        what = value.words if isinstance(value, Fault) else f"it gave {value!r:.80}"
        raise TaskError(f"{name} fails ({what}); expected a {kind.__name__}; mend it")

    return given


def module_at(path: Path, expected: str) -> ModuleType:
    """The Python file as a module; it may import its neighbours.  TaskError with its line where it fails."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise TaskError(f"{path} is not a Python file; expected a name that ends in .py; rename it")
    module = importlib.util.module_from_spec(spec)
    with _neighbours(path.resolve().parent):
        fresh = sys.modules.setdefault(path.stem, module) is module  # dataclasses look for their module there
        fault = attempt(_execute, spec.loader, module)
        if isinstance(fault, Fault):
            if fresh:
                del sys.modules[path.stem]
            raise TaskError(f"{path} fails ({fault.words}); expected {expected}; mend that line")
    return module


def _execute(loader: Any, module: ModuleType) -> None:
    loader.exec_module(module)


@contextmanager
def _neighbours(folder: Path) -> Iterator[None]:
    """The modules of a folder come first while a file of it is read, and last when its functions import."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
