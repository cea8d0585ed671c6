"""A reward function called as TRL 1 calls it, and the process of its own in which it works.

    python -m nomoat.tasks.trl rewards.py f

reads one JSON object a line, {"prompts", "completions", "columns"}, and answers {"rewards"} or {"fault"}.
What the function does to its process (its seeds, threads, working directory, environment, what it prints, its
end) is then no matter of the run's.  The standard library alone, so that it starts quickly.
"""

import asyncio
import functools
import importlib.util
import inspect
import itertools
import json
import math
import os
import signal
import sys
import sysconfig
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

LIBRARIES = (
    str(Path(__file__).parents[1]),
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
)


class Unknown:
    """What is not known where a text is judged; whoever looks into it is told so."""

    def __init__(self, name: str):
        self._name = name

    def __bool__(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        raise TypeError(f"{self._name} is not known where a text is judged; expected a verdict without it")

    def __len__(self) -> int:
        return self.__getattr__("len")

    def __iter__(self) -> Any:
        return self.__getattr__("iter")

    def __getitem__(self, key: Any) -> Any:
        return self.__getattr__("item")

    def __eq__(self, other: object) -> bool:
        return self.__getattr__("eq")

    __hash__ = None


class Judge:
    """One reward function, called as TRL calls it: given all names, or those that it has."""

    def __init__(self, function: Callable[..., Any]):
        kinds = inspect.signature(function).parameters.values()
        takes_all = any(kind.kind is inspect.Parameter.VAR_KEYWORD for kind in kinds)
        names = {kind.name for kind in kinds}

        @functools.wraps(function)
        def called(**named: Any) -> Any:
            return function(**{k: v for k, v in named.items() if takes_all or k in names})

        self.called = called
        self.loop: asyncio.AbstractEventLoop | None = None  # one for all calls

    def rewards(self, prompts: list, completions: list, columns: Mapping[str, list]) -> list[float | None]:
        """A reward for each completion; TypeError or ValueError for anything else."""
        n = len(completions)
        given = self.called(
            prompts=prompts,
            completions=completions,
            completion_ids=[Unknown("completion_ids") for _ in completions],
            trainer_state=Unknown("trainer_state"),
            log_extra=lambda *_, **__: None,
            log_metric=lambda *_, **__: None,
            **columns,
        )
        listed = _listed(self._awaited(given) if inspect.isawaitable(given) else given, n)
        if len(listed) != n:
            raise ValueError(f"it gives {len(listed)} rewards for {n} completions; expected as many")
        return [_number(reward) for reward in listed]

    def _awaited(self, given: Any) -> Any:
        """What an async function gives, always in one loop: clients belong to that of their first call."""
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
            weakref.finalize(self, self.loop.close)
        return self.loop.run_until_complete(_result(given))


async def _result(awaitable: Any) -> Any:
    return await awaitable


def _listed(given: Any, n: int) -> list:
    """What was given in an order; of what may have no end, one too many."""
    if isinstance(given, str | bytes | Mapping | Set) or not hasattr(given, "__iter__"):
        raise TypeError(f"it gives a {type(given).__name__}; expected a list with a reward a completion")
    return list(given if hasattr(given, "__len__") else itertools.islice(given, n + 1))


def _number(reward: Any) -> float | None:
    """None for a reward that is none, as TRL has it."""
    if reward is None:
        return None
    if isinstance(reward, str | bytes):
        raise TypeError(f"it gives {reward!r}; expected a number")
    value = float(reward)
    if math.isinf(value):
        raise ValueError(f"it gives {value}; expected a number with an end")
    return None if math.isnan(value) else value


def told(error: BaseException) -> str:
    """The words of an error, with the last line of a person's own that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(("<frozen", *LIBRARIES))]
    where = f"{own[-1].filename}, line {own[-1].lineno}: " if own else ""
    words = " ".join(str(error).split())
    return f"{where}{type(error).__name__}: {words[:200]}" if words else f"{where}{type(error).__name__}"


def module_of(path: Path) -> ModuleType:
    """The Python file as a module; it may import its neighbours.  ValueError for a file that is none, and
    whatever the file raises.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError("it is not a Python file; expected a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    with _neighbours(path.resolve().parent):
        fresh = sys.modules.setdefault(path.stem, module) is module  # dataclasses look for their module there
        try:
            spec.loader.exec_module(module)
            fresh = False
        finally:
            if fresh:
                del sys.modules[path.stem]
    return module


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


def heard(orders: Any) -> Iterator[dict]:
    """The lines as they come.  The process ends where they do, whatever the function is doing then."""
    waiting: SimpleQueue = SimpleQueue()

    def listen() -> None:
        for line in orders:
            waiting.put(line)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield json.loads(waiting.get())


def main(file: str, name: str) -> None:
    """Answers on what was stdout; what the function prints goes to stderr."""
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)

    def say(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    try:
        function = getattr(module_of(Path(file)), name, None)
        judge = Judge(function) if callable(function) else None
    except BaseException as error:
        say(fault=[type(error).__name__, told(error)])
        return
    say(callable=judge is not None)
    for asked in heard(orders):
        try:
            reply = {"rewards": judge.rewards(**asked)}
        except BaseException as error:
            reply = {"fault": [type(error).__name__, told(error)]}
        sys.stdout.flush()
        say(**reply)


if __name__ == "__main__":
    main(*sys.argv[1:])
