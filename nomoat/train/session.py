"""What a stage works with, and the record of work that is not a training step."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nomoat.config import JsonObject
from nomoat.model import counts
from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer
from nomoat.parallel.mesh import Mesh
from nomoat.parallel.process import release_memory
from nomoat.run.directory import Run
from nomoat.run.energy import Energy
from nomoat.run.stop import Interrupted, Stop


@dataclass(frozen=True)
class Session:
    """What a stage works with: its run and name, ranks, the wish to stop, the meter, how often to save."""

    run: Run
    stage: str
    mesh: Mesh
    stop: Stop
    energy: Energy
    save_seconds: float = 30.0
    kernels: Kernels = Kernels()

    @property
    def leads(self) -> bool:
        return self.mesh.rank == 0

    @property
    def directory(self) -> Path:
        """RUN/<stage>."""
        return self.run.stage_dir(self.stage)

    def log(self, kind: str, **fields: Any) -> None:
        """Into the event log, by rank 0 alone."""
        if self.leads:
            self.run.log(kind, stage=self.stage, **fields)

    def spent(self, seconds: float) -> JsonObject:
        """The cost fields of a record: wall-clock seconds and the energy since the last record."""
        joules, source = self.energy.lap()
        return {"seconds": seconds, "joules": joules, "joules_source": source}

    def lead(self, work: Callable[["Session"], Any]) -> Any:
        """What a work of rank 0 alone gave, on every rank; it is handed a session without the others."""
        return self.mesh.lead(lambda: work(replace(self, mesh=self.mesh.alone())))

    def check_stop(self) -> None:
        """Between two pieces of work that are not steps: leave if a signal asked for it."""
        if self.mesh.any(self.stop.requested):
            raise Interrupted(self.stage)


class Work:
    """`with Work(session, "what") as work:` logs device time that is not a training step; what it held goes
    back to the system."""

    def __init__(self, session: Session, what: str):
        self.session, self.what, self.fields = (
            session,
            what,
            {"tokens": 0, "flops_model": 0, "flops_executed": 0},
        )

    def __enter__(self) -> "Work":
        if self.session.leads:
            self.session.run.tell({"kind": "begin", "stage": self.session.stage, "what": self.what})
        self.start = time.perf_counter()
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            spent = self.session.spent(time.perf_counter() - self.start)
            self.session.log("work", what=self.what, **spent, **self.fields)
            release_memory()


def count(work: Work, model: Transformer, tokens: int, attended: float) -> None:
    """Add forward passes of `tokens` tokens to a work record."""
    work.fields["tokens"] += tokens
    work.fields["flops_model"] += int(tokens * counts.flops_forward(model.spec, attended))
    work.fields["flops_executed"] += int(tokens * counts.flops_forward(model.spec, attended, model.kernels))
