"""The training loop that every stage with weights shares: it steps, logs, saves, survives.

A step is a pure function of (weights, optimiser state, extra state, step): the loader's position and all randomness
are keyed by the step.  So a run that is killed and started again ends in the same bits as one that was left alone.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nomoat.config import UserError
from nomoat.parallel.mesh import Mesh
from nomoat.parallel.process import release_memory
from nomoat.run.stop import Interrupted
from nomoat.train import checkpoint
from nomoat.train.optim import Optimizer
from nomoat.train.schedule import Schedule
from nomoat.train.session import Session

SKIPS_BEFORE_ROLLBACK = 3
ROLLBACKS_BEFORE_STOP = 2


@dataclass(frozen=True)
class Gradient:
    """What one step's forward and backward pass left behind, besides the .grad fields."""

    loss: float
    tokens: int
    flops_model: float
    flops_executed: float
    telemetry: dict[str, Any] = field(default_factory=dict)
    after: Callable[[], None] = lambda: None  # runs with the optimiser step, not when the step is skipped


def train(
    session: Session,
    model: nn.Module,
    optimizer: Optimizer,
    schedule: Schedule,
    n_steps: int,
    compute: Callable[[int], Gradient],
    extra: dict[str, Any] | None = None,
) -> None:
    """`n_steps` optimiser steps; `compute(data_step)` leaves gradients in the model.

    `extra` is JSON that compute may read and change; it is saved and restored with the weights.  Resumes from the
    newest checkpoint of this stage.  A non-finite loss or gradient skips the step on every rank; three in a row go back
    to the last checkpoint and on past the data that did it; a third time stops.  Raises run.Interrupted after saving
    when a signal came.
    """
    directory = session.run.stage_dir(session.stage) / "checkpoints"
    extra = {} if extra is None else extra
    progress = {"step": 0, "offset": 0, "skipped": 0, "rollbacks": 0}
    bad_in_a_row = 0

    def restore() -> bool:
        path = checkpoint.newest(directory, lambda text: session.log("note", text=text))
        if path is None:
            return False
        tensors, state = checkpoint.load(path)
        optimizer.load(tensors["optimizer"])
        for name, buffer in model.named_buffers():
            buffer.copy_(tensors["buffers"][name])
        extra.clear()
        extra.update(state["extra"])
        progress.update(state["progress"])
        session.log("resume", step=progress["step"])
        return True

    def save() -> None:
        groups = {"optimizer": optimizer.tensors(), "buffers": dict(model.named_buffers())}
        state = {"progress": progress, "extra": extra}
        try:
            if session.leads:
                session.run.sync()
            checkpoint.save(directory, progress["step"], groups, state, mesh=session.mesh)
        except OSError as error:
            session.log("note", text=f"no checkpoint at step {progress['step']}: {error}; the one before stays")
        session.mesh.barrier()

    restore()
    saved_at = mark = time.perf_counter()
    while progress["step"] < n_steps:
        step = progress["step"]
        gradient = compute(step + progress["offset"])
        grad_norm = reduce_gradients(session.mesh, optimizer)
        finite = math.isfinite(grad_norm) and math.isfinite(gradient.loss)
        factor = schedule.factor(step, n_steps)
        if session.mesh.any(not finite):
            bad_in_a_row += 1
            progress["skipped"] += 1
            optimizer.clear()
            session.log("note", text=f"step {step + 1}: loss {gradient.loss}, gradient norm {grad_norm}; skipped")
            if bad_in_a_row == SKIPS_BEFORE_ROLLBACK:
                bad_in_a_row = 0
                _roll_back(session, progress, restore)
                continue
        else:
            bad_in_a_row = 0
            optimizer.step(factor, grad_norm)
            gradient.after()
        progress["step"] += 1
        now = time.perf_counter()
        seconds, mark = now - mark, now
        counts = session.mesh.gather((gradient.tokens, gradient.flops_model, gradient.flops_executed))
        tokens, flops_model, flops_executed = (sum(column) for column in zip(*counts))
        session.log(
            "step", step=progress["step"], n_steps=n_steps, loss=gradient.loss, grad_norm=grad_norm, lr=factor,
            tokens=tokens, tokens_per_second=tokens / seconds, flops_model=int(flops_model),
            flops_executed=int(flops_executed + session.mesh.world * optimizer.flops()), **session.spent(seconds),
            **gradient.telemetry,
        )  # fmt: skip
        stop = session.mesh.any(session.stop.requested)
        if stop or session.mesh.any(now - saved_at > session.save_seconds and progress["step"] < n_steps):
            save()
            release_memory()
            saved_at = time.perf_counter()
        if stop and progress["step"] < n_steps:
            raise Interrupted(f"{session.stage} at step {progress['step']} of {n_steps}")


def reduce_gradients(mesh: Mesh, optimizer: Optimizer) -> float:
    """The mean gradient over the ranks, in place; gives its norm.  A rank with nothing to learn takes part with zeros."""
    params = list(optimizer.params.values())
    if mesh.world > 1 or all(p.grad is None for p in params):
        for p in params:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    mesh.all_reduce_mean([p.grad for p in params if p.grad is not None])
    return float(optimizer.grad_norm())


def _roll_back(session: Session, progress: dict[str, int], restore: Callable[[], bool]) -> None:
    """Back to the last checkpoint, and on behind the data that gave no finite gradient."""
    bad, offset, rollbacks = progress["step"], progress["offset"], progress["rollbacks"]
    if rollbacks == ROLLBACKS_BEFORE_STOP or not restore():
        raise UserError(
            f"{session.stage}: no finite gradient near step {bad + 1} after {rollbacks} rollbacks; expected a finite loss; "
            "lower the learning rates (--set STAGE.optim.muon_lr=…) or look at the data there; checkpoints are kept"
        )
    progress["offset"] = offset + bad - progress["step"] + 1
    progress["rollbacks"] = rollbacks + 1
    session.log("note", text=f"rolled back to step {progress['step']}, data moved on by {progress['offset']} steps")
