"""A person's reward function in a process of its own, asked by one caller at a time."""

import json
import os
import select
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from nomoat.config import TaskError
from nomoat.tasks import guest

START_SECONDS = 300.0  # in which a file is read; it may load a model
LONGEST_SECONDS = 240.0  # of one call; less than guest has


class Worker:
    """The function `name` of a Python file; its process is started when it is asked and ends with this.

    TaskError where the file or the function is none, or a call does not come back.
    """

    def __init__(self, file: str, name: str, expected: str):
        self.file, self.name, self.expected = file, name, expected
        self.lock = Lock()
        self.process: subprocess.Popen | None = None
        self.end: Callable[[], Any] | None = None
        with self.lock:
            self._started()

    def rewards(self, prompts: list, completions: list, columns: Mapping[str, list]) -> list[float | None]:
        """A reward for each completion; guest.Raised for what the function raised, or that it has ended."""
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self._started()
            asked = {"prompts": prompts, "completions": completions, "columns": columns}
            said = self._asked(json.dumps(asked).encode() + b"\n", LONGEST_SECONDS)
        if "fault" in said:
            raise guest.Raised(*said["fault"])
        return said["rewards"]

    def close(self) -> None:
        """Ends its process."""
        if self.end is not None:
            self.end()
        self.process = None

    def _started(self) -> None:
        self.close()
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nomoat.tasks.trl", self.file, self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is the command's
        )
        os.set_blocking(self.process.stdin.fileno(), False)
        self.end = weakref.finalize(self, _ended, self.process)
        try:
            said = self._asked(b"", START_SECONDS)
        except guest.Raised as error:
            said = {"fault": [error.kind, error.words]}
        if "fault" in said:
            self.close()
            found = f"{self.file} fails ({said['fault'][1]})"
            raise TaskError(f"{found}; expected a file with {self.expected}; mend that line")
        if not said["callable"]:
            self.close()
            raise TaskError(f"no function {self.name!r} in {self.file}; expected {self.expected}; mend it")

    def _asked(self, line: bytes, seconds: float) -> dict[str, Any]:
        """What it says to a line.  Whatever ends the waiting ends the process, which would answer later."""
        process, answered = self.process, False
        try:
            said = json.loads(self._answer(memoryview(line), time.monotonic() + seconds))
            answered = True
        except TimeoutError:
            raise guest.too_slow(self.name, seconds) from None
        except (EOFError, BrokenPipeError):
            code = process.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise guest.Raised("end", f"it ends its process ({how})") from None
        finally:
            if not answered:
                self.close()
        return said

    def _answer(self, line: memoryview, deadline: float) -> bytes:
        """The line that comes back.  TimeoutError, EOFError where none does."""
        ins, outs, parts = self.process.stdin.fileno(), self.process.stdout.fileno(), b""
        while line:
            _awaited(ins, select.POLLOUT, deadline)
            line = line[os.write(ins, line) :]
        while not parts.endswith(b"\n"):
            _awaited(outs, select.POLLIN, deadline)
            if not (part := os.read(outs, 1 << 16)):
                raise EOFError
            parts += part
        return parts


def _awaited(fd: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(fd, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


def _ended(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()

