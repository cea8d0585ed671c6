"""What ranks do about faults: agree before they compute, and notice one that has fallen silent, or hangs.

A rank that dies breaks its connections, and the others fail at once.  One that is stopped, or cut off, breaks
nothing: the others would wait half an hour for it.  So each rank beats once a second, in a thread, and
listens to the next one; where that is silent for too long it ends it, if it can, and itself, and the launcher
starts all again.  One that beats and does nothing keeps the others from what they do: then the log of the
run stands still, and the rank that writes it ends itself.
"""

import contextlib
import math
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import torch.distributed as dist

from nomoat.config import UserError
from nomoat.files import write_whole, writing
from nomoat.parallel.mesh import Mesh

BEAT_SECONDS = 1.0
LEAVE_SECONDS = 25.0  # to save after a signal; launchers kill after 30
CLOCKS_SECONDS = 5.0  # that clocks may be apart


def end(why: str) -> None:
    """Ends this process at once, whatever its threads wait for."""
    os.write(2, f"nomoat: {why}; this rank ends here, so that its launcher sees it\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def name_rank(number: int) -> None:
    """Calls this process `rank N`, where the system can, for those who look at it from outside."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(f"rank {number}")


def ranks_of(launcher: int) -> dict[int, int]:
    """The process of each rank that a launcher started, itself or through one that it keeps warm; Linux."""
    ranks = {}
    with contextlib.suppress(OSError):
        for word in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
            rank = _rank_of(int(word))
            ranks |= ranks_of(int(word)) if rank is None else {rank: int(word)}
    return ranks


def _rank_of(pid: int) -> int | None:
    """By what it calls itself, or was given at its start."""
    with contextlib.suppress(OSError, ValueError):
        name, _, number = Path(f"/proc/{pid}/comm").read_text().partition(" ")
        if name == "rank":
            return int(number)
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        places = dict(word.split(b"=", 1) for word in words if b"=" in word)
        return int(places[b"RANK"]) if b"RANK" in places else None
    return None


def end_beside() -> None:
    """Ends the other ranks of this launcher, which would start them again anyway: one that is stopped, only
    half a minute later."""
    for pid in ranks_of(os.getppid()).values():
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


class Guard:
    """`with Guard(...):` this rank beats, listens to the next, and asks itself to stop once its launcher is
    gone.  `connect` gives a connection of its own.  Once `hear` was called, it ends where that isn't again
    for `hang_seconds`.
    """

    def __init__(
        self,
        rank: int,
        world: int,
        connect: Callable[[], dist.Store],
        silence_seconds: float,
        hang_seconds: float = math.inf,
        end: Callable[[str], None] = end,
    ):
        self.rank, self.next, self.connect = rank, (rank + 1) % world, connect
        self.silence_seconds, self.hang_seconds, self.end = silence_seconds, hang_seconds, end
        self.parent = os.getppid()
        self.heard: bytes | None = None  # of the next rank
        self.heard_at = time.monotonic()
        self.record_at: float | None = None
        self.store: dist.Store | None = None
        self.waits = False  # for an answer of the store
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="guard", daemon=True)
        self.talk = threading.Thread(target=self._talk, name="guard's talk", daemon=True)

    def __enter__(self) -> Self:
        self.heard_at = time.monotonic()
        self.thread.start()
        self.talk.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over.set()

    def hear(self, event: object) -> None:
        """An event of the run's log."""
        self.record_at = time.monotonic()

    def _watch(self) -> None:
        while not self.over.wait(min(BEAT_SECONDS, self.silence_seconds / 4)):
            if os.getppid() != self.parent:
                self.parent = os.getppid()
                os.kill(os.getpid(), signal.SIGTERM)
            now = time.monotonic()
            silent, still = now - self.heard_at, now - (self.record_at or now)
            if silent > self.silence_seconds:
                answered = self.store and not self.waits
                who = f"rank {self.next}" if answered else "the store of all ranks"
                since = "" if self.heard else " from the start: look at what it said before"
                end_beside()
                self.end(f"{who} has been silent for {silent:.0f} seconds{since}")
                return
            if still > self.hang_seconds:
                self.end(f"nothing came into the log for {still:.0f} seconds")
                return

    def _talk(self) -> None:
        """In a thread of its own: a store whose process is stopped may never answer."""
        beats = 0
        while not self.over.wait(min(BEAT_SECONDS, self.silence_seconds / 4) if beats else 0.0):
            beats += 1
            self.waits = True
            beat = self._exchange(beats)
            self.waits = False
            if beat != self.heard:
                self.heard, self.heard_at = beat, time.monotonic()

    def _exchange(self, beats: int) -> bytes | None:
        """The last beat of the next rank, None where the store doesn't answer."""
        try:
            self.store = self.store or self.connect()
            self.store.set(f"beat{self.rank}", str(beats))
            theirs = f"beat{self.next}"
            return self.store.get(theirs) if self.store.check([theirs]) else None
        except RuntimeError:  # torch's errors of a connection
            return None


def meet(mesh: Mesh, directory: Path, say: Callable[[str], object]) -> None:
    """UserError on all ranks unless each sees in `directory` what rank 0 writes there; says where clocks are
    apart.
    """
    if mesh.world == 1:
        return
    nonce = mesh.broadcast(secrets.token_hex(8))
    file, is_new = directory / f".met-{nonce}", not directory.exists()
    mesh.together(lambda: _mark(file) if mesh.rank == 0 else None)
    seen = mesh.gather((file.exists(), socket.gethostname(), str(directory.absolute()), time.time()))
    if mesh.rank == 0:
        file.unlink(missing_ok=True)
    for rank, (is_there, host, path, _) in enumerate(seen):
        if not is_there:
            if mesh.rank == 0 and is_new:
                directory.rmdir()
            error = UserError(
                f"rank {rank} on {host} does not find in {path} what rank 0 on {seen[0][1]} just wrote in "
                f"{seen[0][2]}; expected one directory that all ranks share; give --out on a shared file "
                "system"
            )
            raise mesh.known(error)
    clocks = [now for *_, now in seen]
    apart = max(clocks) - min(clocks)
    if apart > CLOCKS_SECONDS and mesh.rank == 0:
        late, early = clocks.index(min(clocks)), clocks.index(max(clocks))
        say(
            f"clocks are {apart:.0f} s apart (rank {late} behind rank {early}): times in the log are rank 0's"
        )


def _mark(file: Path) -> None:
    """What the others are to find, in a directory that is made for it."""
    with writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, file.name)
