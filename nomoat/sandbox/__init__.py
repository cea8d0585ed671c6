"""Runs Python that a model wrote and says what it answered; answers are compared here, out of its reach.

    verdict = sandbox.judge("def f(x): return x + 1", inputs=[1, 2], expected=[2, 3])

Two backends, tried in order: bubblewrap (namespaces; a file system with nothing but the interpreter and a
small tmpfs) and Landlock (nothing but the interpreter can be read, nothing can be written).  Both add a
seccomp filter (no processes, sockets, signals, memory outside the address space), resource limits and a wall
clock.
Where neither works `run` refuses; it never runs a program without walls.

Promised: no file but the interpreter's and the system's libraries can be read, no network, no other process
is touched, memory, time, disk and output are bounded, nothing stays behind, only the right answers pass.
Expected answers and later inputs are never in the process: inputs arrive one at a time, in order.  Each run
has a fresh process, an empty environment and a fixed hash seed.
Not promised: bugs of the kernel; timing channels; that a program which keeps state sees each input afresh.
Under Landlock, the existence and size of a file can be told.  Root's threads are bounded by the address space
alone.
"""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from nomoat.config import ConfigError, UserError
from nomoat.files import visible
from nomoat.sandbox import walls

BACKENDS = ("bubblewrap", "landlock")
VARIABLE = "NOMOAT_SANDBOX"
START_SECONDS = 30.0  # until the jail is ready: the machine's slowness, not the program's


@dataclass(frozen=True)
class Limits:
    wall_seconds: float = 5.0  # all inputs together, from when the jail is ready
    cpu_seconds: int = 4
    memory_bytes: int = 512 << 20  # address space
    output_bytes: int = 64 << 10  # all answers together
    scratch_bytes: int = 16 << 20  # /tmp; under Landlock there is none


@dataclass(frozen=True)
class Verdict:
    """`outputs`: the answers as far as they came.  'infra' means that nothing is known about the program."""

    status: str  # pass | wrong | error | timeout | memory | forbidden | infra
    outputs: list[Any] = field(default_factory=list)
    detail: str = ""
    backend: str = ""


class Ended(Exception):
    """(status, detail) of a run that didn't reach its end."""


def run(code: str, inputs: Sequence[Any], limits: Limits | None = None) -> Verdict:
    """What the program's `f` answers to each input; 'pass' means that it answered all.  Threads may call it.

    Raises UserError where there is no sandbox, TypeError or ValueError for inputs that aren't JSON.
    """
    return confined(code, inputs, limits or Limits(), backend())


def judge(code: str, inputs: Sequence[Any], expected: Sequence[Any], limits: Limits | None = None) -> Verdict:
    """As `run`, but 'wrong' where an answer isn't the expected one; True, 1 and 1.0 are three answers."""
    if len(inputs) != len(expected) or not inputs:
        numbers = f"{len(inputs)} inputs, {len(expected)} expected answers"
        raise ValueError(f"{numbers}; expected as many, at least one")
    verdict = run(code, inputs, limits)
    if verdict.status != "pass":
        return verdict
    for number, (got, want) in enumerate(zip(verdict.outputs, expected)):
        if not same(got, as_json(want)):
            detail = f"input {number}: found {ascii(got):.80}, expected {ascii(want):.80}"
            return replace(verdict, status="wrong", detail=visible(detail, keep=""))
    return verdict


def as_json(value: Any) -> Any:
    """The value as JSON brings it; TypeError or ValueError where JSON has no such value."""
    return json.loads(json.dumps(value, allow_nan=False))


def same(a: Any, b: Any) -> bool:
    """Equality of JSON values that doesn't confuse kinds."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


def backend() -> str:
    """The backend that `run` uses: the first that works or that NOMOAT_SANDBOX names; else UserError."""
    wish, faults, names = os.environ.get(VARIABLE, ""), [], ", ".join(BACKENDS)
    if wish and wish not in BACKENDS:
        raise ConfigError(f"{VARIABLE}={wish!r}; expected one of: {names}; unset it or choose one")
    for name in [wish] if wish else BACKENDS:
        try:
            return probe(name)
        except UserError as error:
            faults.append(f"{name}: {error}")
    raise UserError(
        f"no sandbox for model-written code works here ({'; '.join(faults)}); expected one of {names}; "
        "install bubblewrap or use Linux 5.13 or newer with Landlock, or leave out the tasks that run code"
    )


@lru_cache
def probe(name: str) -> str:
    """The name, where a benign program ran under it; else UserError, which isn't remembered."""
    verdict = confined("def f(x): return x + 1", [1], Limits(wall_seconds=START_SECONDS), name)
    if verdict.outputs != [2]:
        raise UserError(f"{verdict.status}: {verdict.detail}")
    return name


def literal(value: object) -> bytes:
    return ascii(value).encode()


def confined(code: str, inputs: Sequence[Any], limits: Limits, name: str) -> Verdict:
    """One run under the backend of that name."""
    lines = [literal(as_json(value)) for value in inputs]
    command, outputs, place = walls.command(name, limits), [], ""
    try:
        with closing(Wire(command, limits)) as wire:
            wire.start(literal(walls.settings(name, limits)))
            wire.deadline = time.monotonic() + limits.wall_seconds
            wire.ask(literal(code))
            for number, line in enumerate(lines):
                place = f"input {number}: "
                outputs.append(wire.ask(line))
    except Ended as end:
        status, detail = end.args
        return Verdict(status, outputs, visible(place + detail, keep=""), name)
    except OSError as error:  # no process, no pipe, no memory left for either
        return Verdict("infra", outputs, visible(error, keep=""), name)
    if wire.rest:
        return Verdict("error", outputs, "answered what it wasn't asked", name)
    return Verdict("pass", outputs, "", name)


class Wire:
    """A jail and the two pipes to it; every wait has a deadline, every answer a size."""

    def __init__(self, command: list[str], limits: Limits) -> None:
        self.limits, self.budget, self.rest = limits, limits.output_bytes, b""
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env={"PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        self.deadline = time.monotonic() + START_SECONDS
        self.ins, self.outs = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.ins, False)

    def close(self) -> None:
        """Nothing of it is alive after this: the answers' pipe ends when its last holder has."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):  # gone
                os.killpg(self.process.pid, signal.SIGKILL)
            self.deadline = time.monotonic() + START_SECONDS
            with suppress(Ended):
                while chunk := self.read():
                    self.rest = (self.rest + chunk)[:1]
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()

    def start(self, settings: bytes) -> None:
        said = b"no answer"
        with suppress(Ended, EOFError):
            self.send(settings)
            said = self.line()
        if said != b"ready":
            os.set_blocking(self.process.stderr.fileno(), False)
            said = self.process.stderr.read(2000) or said
            raise Ended("infra", f"the jail didn't start: {said.decode(errors='replace').strip():.200}")

    def ask(self, line: bytes) -> Any:
        """The value of one answer.  Raises Ended for everything else."""
        if self.rest:
            raise Ended("error", "answered before it was asked")
        try:
            self.send(line)
            answer = json.loads(self.line())
            json.dumps(answer, allow_nan=False, ensure_ascii=False).encode()  # no 1e999, no lone surrogates
        except EOFError:
            raise self.death() from None
        except (ValueError, RecursionError):
            raise Ended("error", "the answer is not JSON") from None
        match answer:
            case ["ok", value]:
                return value
            case ["error", str(kind), str(message)]:
                status = {"MemoryError": "memory", "PermissionError": "forbidden"}.get(kind, "error")
                raise Ended(status, f"{kind}: {message}"[:240])
        raise Ended("error", "the answer has no known form")

    def wait(self, fd: int, event: int) -> None:
        poll = select.poll()
        poll.register(fd, event)
        if not poll.poll(max(0.0, self.deadline - time.monotonic()) * 1000):
            raise Ended("timeout", "no answer within the wall-clock limit")

    def send(self, line: bytes) -> None:
        data = memoryview(line + b"\n")
        with suppress(BrokenPipeError):  # what it died of shows when its answer is read
            while data:
                self.wait(self.ins, select.POLLOUT)
                data = data[os.write(self.ins, data) :]

    def read(self) -> bytes:
        self.wait(self.outs, select.POLLIN)
        return os.read(self.outs, 1 << 16)

    def line(self) -> bytes:
        parts = self.rest
        while b"\n" not in parts:
            if not (chunk := self.read()):
                raise EOFError
            parts += chunk
            if len(parts) > self.budget:
                raise Ended("error", "more output than allowed")
        line, _, self.rest = parts.partition(b"\n")
        self.budget -= len(line)
        return line

    def death(self) -> Ended:
        """What an unexpected end means.  Only a signal gives a code of 128 or more: see seccomp.toml."""
        pidfd = os.pidfd_open(self.process.pid)
        try:
            self.wait(pidfd, select.POLLIN)  # it may have closed the pipe and live on
        finally:
            os.close(pidfd)
        code = self.process.wait()
        number = -code if code < 0 else code - 128
        if number < 0:
            return Ended("error", f"the process left with code {code}")
        seconds = time.monotonic() - self.deadline + self.limits.wall_seconds
        spent = seconds * (os.cpu_count() or 1) > self.limits.cpu_seconds
        if number == signal.SIGXCPU or (number == signal.SIGKILL and spent):
            return Ended("timeout", "no CPU time left")
        if number == signal.SIGKILL:  # nobody inside can send it
            return Ended("infra", "killed from outside; is the machine out of memory?")
        return Ended("forbidden" if number == signal.SIGSYS else "error", f"died of signal {number}")
