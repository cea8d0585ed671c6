"""What this process holds and has used: memory, now and at most since a mark, and seconds of processors."""

import contextlib
import resource
import sys
import time
from pathlib import Path

from nomoat.config import JsonObject

STATUS = Path("/proc/self/status")
MEMINFO, GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
MARK = Path("/proc/self/clear_refs")  # "5" resets the peak of Linux: proc(5)


def resident_bytes() -> int:
    """Physical memory of the process now; where no /proc tells, the most that it ever held."""
    return _status("VmRSS") or _most_ever()


def peak_bytes() -> int:
    """The most since `mark_peak`, where that could be marked, or else since the process began."""
    return _status("VmHWM") or _most_ever()


def mark_peak() -> None:
    """From here on the peak is counted anew; without Linux's /proc it goes on."""
    with contextlib.suppress(OSError):
        MARK.write_text("5")


def available_bytes() -> int | None:
    """What a process may still take, by Linux's /proc and the limit of its control group; None where neither
    tells.
    """
    told = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = MEMINFO.read_text().splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable:"))
        told.append(1024 * int(free.split()[1]))
    with contextlib.suppress(OSError, ValueError):
        most, taken = ((GROUP / name).read_text() for name in ("memory.max", "memory.current"))
        told.append(max(int(most) - int(taken), 0))
    return min(told, default=None)


def held() -> JsonObject:
    """What a record says of the process: `peak_bytes`, and `cpu_seconds` of all its threads so far."""
    return {"peak_bytes": peak_bytes(), "cpu_seconds": time.process_time()}


def _status(name: str) -> int | None:
    with contextlib.suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    return None


def _most_ever() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
