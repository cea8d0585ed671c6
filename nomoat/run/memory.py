"""What this process holds and has used: memory, now and at most since a mark, and seconds of processors."""

import contextlib
import resource
import sys
import time
from pathlib import Path

from nomoat.config import JsonObject

STATUS = Path("/proc/self/status")
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
