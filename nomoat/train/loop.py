"""The training loop that every stage with weights shares: it steps, logs, saves, survives.

A step is a pure function of (weights, optimiser state, extra state, step): the loader's position and all
randomness are keyed by the step.  So a run that is killed and started again ends in the same bits as one that
was left alone.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from nomoat.config import JsonObject, UserError
from nomoat.parallel.mesh import Mesh
from nomoat.run.stop import Interrupted
from nomoat.train import checkpoint
from nomoat.train.optim import Optimizer
from nomoat.train.parts import Groups
from nomoat.train.saver import Saver
from nomoat.train.schedule import Schedule
from nomoat.train.session import Session

N_LOADS = 100  # steps of a training whose log has the load of each expert
MOST_EXPERTS = 512  # of all layers, in a record of the log
SKIPS_BEFORE_ROLLBACK = 3
ROLLBACKS_BEFORE_STOP = 2


def nothing() -> None:
    """What follows a step that nothing follows."""


def never() -> bool:
    """Of a training that takes all of its steps."""
    return False


@dataclass(frozen=True)
class Gradient:
    """What one step's forward and backward pass left behind, besides the .grad fields."""

    loss: float
    tokens: int
    flops_model: float
    flops_executed: float
    telemetry: JsonObject = field(default_factory=dict)
    after: Callable[[], None] = nothing  # runs with the optimiser step, not when the step is skipped


def train(
    session: Session,
    model: nn.Module,
    optimizer: Optimizer,
    schedule: Schedule,
    n_steps: int,
    compute: Callable[[int], Gradient],
    extra: JsonObject | None = None,
    enough: Callable[[], bool] = never,
) -> int:
    """`n_steps` optimiser steps, or fewer where it is `enough` behind one of them; gives their number.

    `compute(data_step)` leaves gradients in the model.  `extra` is JSON that compute and enough may read and
    compute may change; it is saved and restored with the weights.  Resumes from the newest checkpoint of this
    stage.  A non-finite loss or gradient skips the step on every rank; three in a row go back to the last
    checkpoint and on past the data that did it; a third time stops.
    Saves are written while the steps go on (saver.py), but where one is due after every step.
    Raises run.Interrupted after saving when a signal came.
    """
    training = _Training(session, model, optimizer, {} if extra is None else extra)
    training.restore()
    saved_at = mark = time.perf_counter()
    unfinished = training.at.step < n_steps and not enough()
    while unfinished:
        gradient = compute(training.at.step + training.at.offset)
        grad_norm = reduce_gradients(session.mesh, optimizer)
        factor = schedule.factor(training.at.step, n_steps)
        if session.mesh.any(not math.isfinite(grad_norm + gradient.loss)):
            if training.skip(gradient.loss, grad_norm):
                continue
        else:
            training.update(gradient, grad_norm, factor)
        now = time.perf_counter()
        training.log(gradient, now - mark, n_steps=n_steps, grad_norm=grad_norm, lr=factor)
        mark = now
        stop = session.mesh.any(session.stop.requested)
        unfinished = training.at.step < n_steps and not enough()
        if stop or session.mesh.any(now - saved_at > session.save_seconds and unfinished):
            training.save()
            saved_at = time.perf_counter()
        if stop and unfinished:
            training.saver.close()
            raise Interrupted(f"{session.stage} at step {training.at.step} of {n_steps}")
    training.saver.close()
    return training.at.step


@dataclass
class Progress:
    """Where a training stands; saved with its weights."""

    step: int = 0
    offset: int = 0  # steps whose data is passed over
    skipped: int = 0
    rollbacks: int = 0


class _Training:
    """One call of `train`: what it changes, and the ways in which a step ends."""

    def __init__(self, session: Session, model: nn.Module, optimizer: Optimizer, extra: JsonObject):
        self.session, self.model, self.optimizer, self.extra = session, model, optimizer, extra
        self.directory = session.directory / "checkpoints"
        self.saver = Saver(self.directory, session.mesh, partial(unsaved, session))
        self.at = Progress()
        self.bad_in_a_row = 0

    def note(self, text: str) -> None:
        self.session.log("note", text=text)

    def restore(self) -> bool:
        """Go on from the newest checkpoint; false where there is none."""
        self.saver.wait()
        path = checkpoint.newest(self.directory, self.note, self.session.mesh)
        if path is None:
            return False
        tensors = self.tensors()
        state = checkpoint.restore(path, tensors)
        self.optimizer.load(tensors["optimizer"])
        self.extra.clear()
        self.extra.update(state["extra"])
        self.at = Progress(**state["progress"])
        self.session.log("resume", step=self.at.step)
        return True

    def tensors(self) -> Groups:
        return {"optimizer": self.optimizer.tensors(), "buffers": dict(self.model.named_buffers())}

    def save(self) -> None:
        refused = None
        try:
            if self.session.leads:
                self.session.run.sync()
        except OSError as error:
            refused = error
        state = {"progress": asdict(self.at), "extra": self.extra}
        self.saver.begin(self.at.step, self.tensors(), state, refused)
        if not self.session.save_seconds:
            self.saver.wait()

    def update(self, gradient: Gradient, grad_norm: float, factor: float) -> None:
        self.bad_in_a_row = 0
        self.optimizer.step(factor, grad_norm)
        gradient.after()
        self.at.step += 1

    def skip(self, loss: float, grad_norm: float) -> bool:
        """Pass over a step without a finite gradient; true where there were so many that it rolled back."""
        self.bad_in_a_row += 1
        self.at.skipped += 1
        self.optimizer.clear()
        self.note(f"step {self.at.step + 1}: loss {loss}, gradient norm {grad_norm}; skipped")
        if self.bad_in_a_row == SKIPS_BEFORE_ROLLBACK:
            self.roll_back()
            return True
        self.at.step += 1
        return False

    def roll_back(self) -> None:
        """Back to the last checkpoint, and on behind the data that gave no finite gradient."""
        self.bad_in_a_row, bad = 0, self.at
        if bad.rollbacks == ROLLBACKS_BEFORE_STOP or not self.restore():
            raise UserError(
                f"{self.session.stage}: no finite gradient near step {bad.step + 1} after {bad.rollbacks} "
                "rollbacks; expected a finite loss; lower the learning rates "
                "(--set STAGE.optim.muon_lr=…) or look at the data there; checkpoints are kept"
            )
        self.at.offset = bad.offset + bad.step - self.at.step + 1
        self.at.rollbacks = bad.rollbacks + 1
        self.note(f"rolled back to step {self.at.step}, data moved on by {self.at.offset} steps")

    def log(self, gradient: Gradient, seconds: float, **fields: Any) -> None:
        """The record of a step, with the costs of all ranks."""
        self.saver.poll()
        mesh = self.session.mesh
        executed = gradient.flops_executed + self.optimizer.flops()
        counts = mesh.gather((gradient.tokens, gradient.flops_model, executed))
        tokens, flops_model, flops_executed = (sum(column) for column in zip(*counts))
        self.session.log(
            "step",
            step=self.at.step,
            loss=gradient.loss,
            **fields,
            tokens=tokens,
            tokens_per_second=tokens / seconds,
            flops_model=int(flops_model),
            flops_executed=int(flops_executed),
            **self.session.spent(seconds),
            **gradient.telemetry | self.loads(gradient, fields["n_steps"]),
        )

    def loads(self, gradient: Gradient, n_steps: int) -> JsonObject:
        """The load of each expert, layer by layer, in percent of the mean: of some steps, as far as they are
        few.
        """
        shares, every = gradient.telemetry.pop("loads", []), max(1, n_steps // N_LOADS)
        seldom = self.at.step % every and self.at.step not in (1, n_steps)
        if seldom or not 0 < sum(map(len, shares)) <= MOST_EXPERTS:
            return {}
        return {"loads": [[round(100 * share) for share in share_E.tolist()] for share_E in shares]}


def unsaved(session: Session, step: int, error: OSError) -> None:
    """No method: a saver that knew its training would keep the model until cycles are looked for."""
    session.log("note", text=f"no checkpoint at step {step}: {error}; the one before stays")


def reduce_gradients(mesh: Mesh, optimizer: Optimizer) -> float:
    """The sum of the ranks' gradients, in place; gives its norm.

    A rank with nothing to learn takes part with zeros.  Where weights are sharded, the backward pass has
    summed already.
    """
    params = list(optimizer.params.values())
    if mesh.data_world > 1 or all(p.grad is None for p in params):
        for p in params:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    grads = [p.grad for p in params if p.grad is not None]
    mesh.all_reduce_sum([grad for grad in grads if not isinstance(grad, DTensor)])
    if optimizer.pipeline:
        optimizer.pipeline.join()
    return optimizer.grad_norm()
