"""What a training leaves behind."""

import gc
import weakref

import torch
from torch import nn

from nomoat.parallel.mesh import ALONE
from nomoat.run.directory import Run
from nomoat.run.energy import Energy
from nomoat.run.stop import Stop
from nomoat.train.loop import Gradient, train
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.schedule import Schedule
from nomoat.train.session import Session


def test_model_and_optimiser_of_a_training_are_freed_with_it_not_when_cycles_are_looked_for(tmp_path):
    session = Session(Run.create(tmp_path / "run", {}), "sft", ALONE, Stop(), Energy("cpu", units=1))
    model = nn.Linear(2, 2)
    optimizer = Optimizer(model, OptimConfig(matrices="adamw"))

    def compute(step: int) -> Gradient:
        model(torch.ones(1, 2)).sum().backward()
        return Gradient(1.0, 1, 1.0, 1.0, {})

    gc.disable()
    try:
        train(session, model, optimizer, Schedule(), 2, compute)
        assert optimizer.steps == 2
        kept = weakref.ref(optimizer)
        del optimizer
        assert kept() is None
    finally:
        gc.enable()
