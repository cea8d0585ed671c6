"""What can befall a rank, done to it from outside; only NaN is fed from within.  Linux."""

import contextlib
import dataclasses
import functools
import math
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection
from pathlib import Path

from nomoat.stages import fit

SLOW_SECONDS = 5.0
FULL_SECONDS = 5.0
CUT_SECONDS = 5.0
NAP_SECONDS = 0.2  # of a slow rank, and a tenth of that awake
APART = ("unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$0" "$@"')


def signalled(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def kill(pid: int) -> None:
    """Ends it without a word."""
    signalled(pid, signal.SIGKILL)


def stop(pid: int) -> None:
    """Stops it for good: it neither answers nor breaks a connection."""
    signalled(pid, signal.SIGSTOP)


def slow(pid: int) -> None:
    """Gives it a tenth of its time, for some seconds."""
    end = time.monotonic() + SLOW_SECONDS
    while time.monotonic() < end:
        signalled(pid, signal.SIGSTOP)
        time.sleep(NAP_SECONDS)
        signalled(pid, signal.SIGCONT)
        time.sleep(NAP_SECONDS / 10)


def disk(pid: int) -> None:
    """Lets no file of it grow, which it sees as a full disk does, for some seconds; needs no rights."""
    try:
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
        time.sleep(FULL_SECONDS)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))
    except ProcessLookupError:
        return


def net(pid: int) -> None:
    """Cuts the network of all ranks for some seconds, and mends it, also where this one has ended by then."""
    with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/ns/net") as space:
        inside = ("nsenter", f"--net=/proc/self/fd/{space.fileno()}", "ip", "link", "set", "lo")
        run = functools.partial(subprocess.run, capture_output=True, check=True, pass_fds=[space.fileno()])
        run([*inside, "down"])
        time.sleep(CUT_SECONDS)
        run([*inside, "up"])


def nan(pid: int) -> None:
    """Nothing from outside: see `poison`."""


KINDS: dict[str, Callable[[int], None]] = {
    "kill": kill,
    "stop": stop,
    "slow": slow,
    "disk": disk,
    "nan": nan,
    "net": net,
}


def unable(kind: str) -> str | None:
    """Why a fault can't be tried here, or None."""
    if kind != "nan" and not Path("/proc/self/environ").exists():
        return "the ranks are found through Linux's /proc"
    if kind == "net":
        missing = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
        if missing or os.geteuid():
            return f"it needs root{' and ' + ', '.join(missing) if missing else ''}"
        if subprocess.run([*APART, "true"], check=False, capture_output=True).returncode:
            return "no network namespace can be made here"
    return None


def poison(steps: Collection[int]) -> None:
    """From now on, in this process, the last rank's loss is NaN at some steps of the stages that learn from
    documents.
    """
    train = fit.train

    def disturbed(session, model, optimizer, schedule, n_steps, compute, **rest):
        def with_nan(step):
            computed = compute(step)
            bad = step in steps and session.mesh.rank == session.mesh.world - 1
            return dataclasses.replace(computed, loss=math.nan) if bad else computed

        return train(session, model, optimizer, schedule, n_steps, with_nan, **rest)

    fit.train = disturbed
