"""Processes that make units: each has its own tokenizer and takes the next unit that nobody has.

A worker dies with the process that began it, however that ends; one that dies is an error, and what it was
writing is not there.
"""

import ctypes
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

from nomoat.config import ConfigError, DataError, UserError
from nomoat.data import prepare, sift
from nomoat.data.units import Plan, missing, plan_of
from nomoat.run.stop import Interrupted, Stop
from nomoat.tokenizer.bpe import Tokenizer

PR_SET_PDEATHSIG = 1
HEAR_SECONDS = 0.2  # how often a signal is looked for
END_SECONDS = 10.0  # until a worker that is no longer asked has gone
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a preparation is, of what is to be done now."""

    n_units: int
    n_done: int
    n_bytes: int
    done_bytes: int
    seconds: float

    def __str__(self) -> str:
        rate = self.done_bytes / max(self.seconds, 1e-9)
        left = (self.n_bytes - self.done_bytes) / rate if rate else 0.0
        return (
            f"{self.n_done} of {self.n_units} units, {self.done_bytes / 1e6:,.0f} of "
            f"{self.n_bytes / 1e6:,.0f} MB, {rate / 1e6:.2f} MB/s, {left:,.0f} s left"
        )


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, out: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, str(out), os.getpid()), daemon=True)
        self.process.start()
        theirs.close()
        self.unit: int | None = None

    def give(self, unit: int) -> None:
        self.unit = unit
        try:
            self.pipe.send(unit)
        except (BrokenPipeError, ConnectionResetError):
            raise self._gone() from None

    def took(self) -> None:
        """Takes its answer; the error that it met, if it met one."""
        try:
            error = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._gone() from None
        if isinstance(error, Exception):
            raise error

    def _gone(self) -> DataError:
        self.process.join(END_SECONDS)
        return DataError(
            f"the worker with unit {self.unit} ended with {self.process.exitcode} (killed, perhaps for want "
            "of memory); run the same command again, with fewer --workers"
        )


class _Pool:
    """Workers that are gone at the end, whatever comes."""

    def __init__(self, out: Path, n: int) -> None:
        self.workers = [_Worker(out) for _ in range(n)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.process.kill()
            worker.process.join(END_SECONDS)
            worker.pipe.close()

    def ready(self) -> Sequence[_Worker]:
        """Those that answered, after a short while."""
        of = {worker.pipe: worker for worker in self.workers if worker.unit is not None}
        return [of[pipe] for pipe in wait(list(of), HEAR_SECONDS)]


def run(out: Path, plan: Plan, units: Sequence[int], n_workers: int, say: Callable[[Progress], Any]) -> None:
    """Makes units; Interrupted behind a signal, with what is done kept."""
    if n_workers < 1:
        raise ConfigError(f"--workers {n_workers}; expected 1 or more")
    left, started = list(reversed(units)), time.perf_counter()
    n_bytes, done_bytes, n_done = sum(map(plan.unit_bytes, units)), 0, 0
    if not left:
        return
    with Stop() as stop, _Pool(out, min(n_workers, len(left))) as pool:
        for worker in pool.workers:
            worker.give(left.pop())
        while n_done < len(units):
            for worker in pool.ready():
                worker.took()
                n_done += 1
                done_bytes += plan.unit_bytes(worker.unit)
                worker.unit = None
                if left:
                    worker.give(left.pop())
                seconds = time.perf_counter() - started
                say(Progress(len(units), n_done, n_bytes, done_bytes, seconds))
            if stop.requested:
                raise Interrupted(f"{n_done} of {len(units)} units are done")


def step(out: str, data: Any = None, rank: int = 0, world_size: int = 1) -> Any:
    """Makes units `rank`, `rank + world_size`, …: a step for datatrove's executors, behind `units.begin`."""
    place = Path(out)
    plan, make = _maker(place)
    for number in missing(place, plan, range(rank, len(plan.units), world_size)):
        make(number)
    return data


def _maker(out: Path) -> tuple[Plan, Callable[[int], None]]:
    """The plan of a directory, and what makes one of its units."""
    plan = plan_of(out)
    tokenizer = Tokenizer.load(out / "tokenizer", plan.tokenizer)
    sieve = sift.Sieve(out, plan) if plan.choices.sifts else None
    return plan, lambda number: prepare.make(out, plan, number, tokenizer, sieve)


def _work(pipe: Connection, out: str, parent: int) -> None:
    """What a worker does until nobody asks it."""
    alone(parent)
    make = None
    while True:
        try:
            number = pipe.recv()
        except EOFError:
            return
        make = make or _maker(Path(out))[1]
        pipe.send(_made(make, number))


def _made(make: Callable[[int], None], number: int) -> Exception | None:
    """The error that a unit met, if it met one."""
    try:
        make(number)
    except UserError as error:
        return error
    except (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError):
        return RuntimeError(f"unit {number}:\n{traceback.format_exc()}")
    return None


def alone(parent: int) -> None:
    """This process dies with its parent, leaves the terminal's signals to it, and keeps to one core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
