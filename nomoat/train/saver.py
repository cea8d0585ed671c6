"""Checkpoints beside the training: copied to the host at once, written by a thread, at most one at a time.

What is too large to be held twice is waited for instead.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from nomoat.parallel.mesh import Mesh
from nomoat.parallel.process import release_memory
from nomoat.train import checkpoint
from nomoat.train.checkpoint import Ranks, Share
from nomoat.train.disk import FS
from nomoat.train.parts import Groups

BESIDE_BYTES = 1 << 30  # of the copies of a rank


@dataclass(frozen=True)
class _Beside:
    """The ranks of a mesh in a group of their own, so that their exchanges don't meet those of the steps."""

    rank: int
    world: int
    group: dist.ProcessGroup

    def gather(self, thing: Any) -> list[Any]:
        things = [None] * self.world
        dist.all_gather_object(things, thing, group=self.group)
        return things


class Saver:
    """Saves the tensors of one training into `directory`; `failed` hears of each save that a disk refused.

    Every rank calls the same methods in the same order.  A save has the tensors as they were when it began.
    The exception for a rank that is lost is raised by the next call.
    """

    def __init__(
        self, directory: Path, mesh: Mesh, failed: Callable[[int, OSError], None], fs: FS = checkpoint.DISK
    ):
        self.directory, self.mesh, self.failed, self.fs = directory, mesh, failed, fs
        self._share: Share | None = None
        self._thread: threading.Thread | None = None
        self._ranks: Ranks = mesh
        self._step, self._error = 0, None
        if mesh.world > 1:
            self._ranks = _Beside(mesh.rank, mesh.world, dist.new_group(backend="gloo"))

    def begin(
        self, step: int, tensors: Groups, state: Mapping[str, Any], refused: OSError | None = None
    ) -> None:
        """Copies the tensors, and goes on writing when this has returned; of more than BESIDE_BYTES, returns
        when they are written.  Waits for the save before.

        `refused`: why this rank can't save, so that none does.
        """
        self.wait()
        self._share = self._share or Share(tensors, self._ranks)
        beside = self._share.n_bytes <= BESIDE_BYTES * self._ranks.world
        copies, text = self._share.copies(tensors, own=beside), checkpoint.as_text(state)
        self._step, self._error = step, RuntimeError(f"the save at step {step} ended with an error")
        self._thread = threading.Thread(
            target=self._write, args=(copies, text, refused), name="saver", daemon=True
        )
        self._thread.start()
        if not beside:
            self.wait()

    def _write(self, copies: dict[str, Any], text: bytes, refused: OSError | None) -> None:
        try:
            checkpoint.write(
                Path(self.directory),
                self._step,
                self._share,
                copies,
                text,
                ranks=self._ranks,
                fs=self.fs,
                refused=refused,
            )
            self._error = None
        except (OSError, RuntimeError) as error:  # a disk; torch's errors of a connection
            self._error = error
        copies.clear()
        release_memory()

    def poll(self) -> None:
        """Says how a save went, once it is over."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Until no save is under way."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread, error, self._error = None, self._error, None
        if isinstance(error, OSError):
            self.failed(self._step, error)
        elif error is not None:
            raise error

    def close(self) -> None:
        """Waits, and leaves the group."""
        self.wait()
        if isinstance(self._ranks, _Beside):
            dist.destroy_process_group(self._ranks.group)
            self._ranks = self.mesh
