"""Muon orthogonalises, AdamW is AdamW, masters survive a round trip, schedules are pure functions."""

import math

import pytest
import torch
from torch import nn

from nomoat.model.linear import Linear
from nomoat.train.optim import OptimConfig, Optimizer, orthogonalise, sum_of_squares
from nomoat.train.schedule import Schedule, ramp_rows, rows_before


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.embed = nn.Parameter(torch.randn(5, 4, generator=g))
        self.wide = nn.Parameter(torch.randn(3, 6, generator=g))
        self.stack = nn.Parameter(torch.randn(2, 6, 3, generator=g))
        self.norm = nn.Parameter(torch.ones(4))


def push(model, seed):
    g = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=g).to(p.dtype)


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (3, 16, 16)])
def test_newton_schulz_brings_singular_values_near_one(shape):
    g = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(g if g.ndim == 3 else g[None], 5).float())
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_without_muon_it_is_torch_adamw():
    ours, theirs = Toy(), Toy()
    optimizer = Optimizer(ours, OptimConfig(matrices="adamw", adam_lr=1e-2, clip_norm=1e9))
    reference = torch.optim.AdamW(theirs.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    for seed in range(5):
        push(ours, seed)
        push(theirs, seed)
        optimizer.step(1.0, float(optimizer.grad_norm()))
        reference.step()
    torch.testing.assert_close(list(ours.parameters()), list(theirs.parameters()))


def test_muon_by_hand():
    """Two steps of W = (1 - lr decay) W - lr sqrt(max(1, r / c)) NS(u), u the momentum looked ahead."""
    model = nn.Module()
    model.w = Linear(4, 9)
    with torch.no_grad():
        model.w.weight.copy_(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)))
    optimizer = Optimizer(model, OptimConfig(muon_lr=0.1, momentum=0.8, weight_decay=0.5))
    expected, m = model.w.weight.detach().clone(), torch.zeros(9, 4)
    for seed in (1, 2):
        g = torch.randn(9, 4, generator=torch.Generator().manual_seed(seed)) / 100
        m = 0.8 * m + 0.2 * g
        u = 0.8 * m + 0.2 * g
        step = orthogonalise(u[None], 5)[0].float()
        expected = (1 - 0.05 * 0.5) * expected - 0.05 * math.sqrt(9 / 4) * step
        model.w.weight.grad = g
        optimizer.step(0.5, 0.0)
    torch.testing.assert_close(model.w.weight.detach(), expected, rtol=0, atol=2e-3)


def test_clipping_bounds_the_gradient_not_its_direction():
    a, b = Toy(), Toy()
    for model, scale in ((a, 1.0), (b, 100.0)):
        optimizer = Optimizer(model, OptimConfig(matrices="adamw", clip_norm=1.0))
        push(model, 3)
        for p in model.parameters():
            p.grad *= scale
        optimizer.step(1.0, float(optimizer.grad_norm()))
    torch.testing.assert_close(list(a.parameters()), list(b.parameters()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_and_loaded_goes_on_bit_for_bit(dtype):
    straight, resumed = Toy().to(dtype), Toy().to(dtype)
    one, two = Optimizer(straight, OptimConfig()), Optimizer(resumed, OptimConfig())
    for seed in range(3):
        push(straight, seed)
        one.step(0.5, 1.0)
    two.load({name: t.clone() for name, t in one.tensors().items()})
    for seed in range(3, 6):
        for model, optimizer in ((straight, one), (resumed, two)):
            push(model, seed)
            optimizer.step(0.5, 1.0)
    for p, q in zip(straight.parameters(), resumed.parameters()):
        assert torch.equal(p, q)


def test_gains_have_their_own_rate():
    model = Toy()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = Optimizer(model, OptimConfig(matrices="adamw", adam_lr=1e-3, gain_lr=1e-2))
    push(model, 0)
    optimizer.step(1.0, 1.0)
    moved = [float((p - b).abs().max().detach()) for p, b in zip(model.parameters(), before)]
    assert moved[3] == pytest.approx(1e-2, rel=1e-2)
    assert moved[0] == pytest.approx(1e-3, rel=1e-2)


def test_warm_up_stable_decay():
    schedule = Schedule(warmup=0.1, decay=0.4)
    factors = [schedule.factor(step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[10:60] == [1.0] * 50
    assert factors[-1] == pytest.approx(0.01 / 0.4)
    assert all(a >= b for a, b in zip(factors[60:], factors[61:]))


@pytest.mark.parametrize("ramp", [(16, 4, 10), (8, 8, 0), (8, 2, 3)])
def test_the_loaders_position_is_the_sum_of_the_batches_before(ramp):
    position = 0
    for step in range(25):
        assert rows_before(step, *ramp) == position
        position += ramp_rows(step, *ramp)
    assert rows_before(10**12, 8, 4, 10**11) == 775 * 10**10  # at once, too


def test_the_norm_of_a_large_gradient_is_not_too_small():
    x = torch.randn(2**24 + 5, generator=torch.Generator().manual_seed(0))
    squares = x.double().square_().sum()
    assert float(sum_of_squares(x)) == pytest.approx(float(squares), rel=1e-12)
    assert float(torch.linalg.vector_norm(x)) < (1 - 3e-4) * math.sqrt(float(squares))  # why it isn't called
