"""What a training leaves behind."""

import gc
import weakref

import pytest
import torch
from torch import nn

from nomoat.parallel.mesh import ALONE
from nomoat.run.directory import Run
from nomoat.run.energy import Energy
from nomoat.run.stop import Interrupted, Stop
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


def test_a_training_ends_where_it_is_enough_and_resumed_behind_the_same_step(tmp_path):
    def ended(name: str, stop: Stop) -> tuple[int, float]:
        torch.manual_seed(0)
        model = nn.Linear(2, 1, bias=False)
        session = Session(Run.create(tmp_path / name, {}), "sft", ALONE, stop, Energy("cpu", units=1), 0.0)
        optimizer = Optimizer(model, OptimConfig(matrices="adamw"))
        state = {"losses": []}

        def compute(step: int) -> Gradient:
            loss = model(torch.ones(1, 2)).square().sum()
            loss.backward()
            state["losses"].append(float(loss.detach()))
            stop.requested = stop.n_heard == len(state["losses"])
            return Gradient(state["losses"][-1], 1, 1.0, 1.0, {})

        n = train(session, model, optimizer, Schedule(), 50, compute, state, lambda: len(state["losses"]) > 6)
        return n, state["losses"]

    whole = ended("whole", Stop())
    assert whole[0] == 7
    interrupted = Stop()
    interrupted.n_heard = 3
    with pytest.raises(Interrupted):
        ended("halved", interrupted)
    assert ended("halved", Stop()) == whole
