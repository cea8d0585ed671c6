"""A lock that one process holds and that the kernel frees when it dies."""

import contextlib
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from nomoat.config import DataError, UserError


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds the lock file; it stays behind, because removing it would race with the next process.

    DataError where it cannot be written, UserError with the pid and host of the process that holds it.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DataError(
            f"cannot write {path} ({error.strerror}); make it writable or use another --out"
        ) from None
    held = [fd]

    def let_go() -> None:
        while held:
            os.close(held.pop())

    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = path.read_text() or "a process that just started"
            raise UserError(
                f"{path.parent} is in use by {owner}; only one process can train into a directory; "
                "wait for it, or use another --out"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, identity().encode(), 0)
        os.register_at_fork(after_in_child=let_go)  # a forked worker must not keep a dead parent's lock
        yield
        fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        let_go()


def identity() -> str:
    """Who this process is: its pid, its host, and the boot that the pid belongs to."""
    file = Path("/proc/sys/kernel/random/boot_id")
    boot = file.read_text().strip() if file.exists() else "?"
    return f"process {os.getpid()} on {socket.gethostname()} (boot {boot})"


def holder(path: Path) -> str | None:
    """Who holds a lock file, as `identity` says it; None where nobody does.  Only reads: to try the lock
    would be in the way of a process that wants it.  One of another host is believed.
    """
    try:
        text, inode = path.read_text("utf-8", "replace"), path.stat().st_ino
    except OSError:
        return None
    found = re.fullmatch(r"process (\d+) on (.+) \(boot (.+)\)", text)
    if found is None:
        return None
    if text != identity().replace(str(os.getpid()), found[1], 1):
        return text
    return text if _alive(int(found[1])) and _locks(int(found[1]), inode) else None


def is_here(owner: str) -> bool:
    """Whether what `holder` says is about a process of this host, so that its end is seen."""
    return owner.partition(" on ")[2] == identity().partition(" on ")[2]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's
    return True


def _locks(pid: int, inode: int) -> bool:
    """Whether the kernel's table has the lock; true where it has no such table."""
    try:
        rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return True
    held = {(row[-4], row[-3].rpartition(":")[2]) for row in rows if "FLOCK" in row}
    return (str(pid), str(inode)) in held
