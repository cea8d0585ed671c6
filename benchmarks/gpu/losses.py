"""Twenty steps of training on the processor and on the device: the same weights, batches and optimiser."""

from collections.abc import Iterator

import torch

from benchmarks.gpu.measure import DTYPES, Place, Result, model_on, random_batch, small_spec
from nomoat.train.objective import ObjectiveConfig, gradient
from nomoat.train.optim import OptimConfig, Optimizer

PROCESSOR = torch.device("cpu")
ROWS, LENGTH, N_BATCHES = 4, 64, 4


def losses(place: Place) -> Iterator[Result]:
    """How far apart the losses are, in fp32 and bf16, and whether the device repeats itself."""
    n_steps = 2 if place.dry else 20
    curves = {}
    for name, dtype in DTYPES.items():
        curves[name] = here = train(PROCESSOR, dtype, n_steps)
        there = train(place.device, dtype, n_steps)
        yield from beside(name, here, there)
        repeated = max(gaps(there, train(place.device, dtype, n_steps)))
        yield Result("losses", f"{name}, the device against itself", repeated, "nats", "0: to the bit")
    between = max(gaps(*curves.values()))
    yield Result("losses", "fp32 against bf16, on the processor", between, "nats", "what rounding alone does")


def beside(name: str, here: list[float], there: list[float]) -> Iterator[Result]:
    apart = gaps(here, there)
    ends = f"{here[0]:.4f} to {here[-1]:.4f}, on the device {there[0]:.4f} to {there[-1]:.4f}"
    yield Result("losses", f"{name}, first step", apart[0], "nats", ends)
    series = " ".join(f"{gap:.1e}" for gap in apart)
    yield Result("losses", f"{name}, largest of {len(apart)} steps", max(apart), "nats", series)


def gaps(a: list[float], b: list[float]) -> list[float]:
    return [abs(x - y) for x, y in zip(a, b)]


def train(device: torch.device, dtype: torch.dtype, n_steps: int) -> list[float]:
    """The loss of each step; Muon for matrices, AdamW for the rest, experts kept balanced."""
    spec = small_spec()
    model = model_on(device, spec, dtype)
    optimizer = Optimizer(model, OptimConfig())
    batches = [random_batch(spec, ROWS, LENGTH, seed) for seed in range(N_BATCHES)]
    out = []
    for step in range(n_steps):
        left = gradient(model, batches[step % N_BATCHES], ObjectiveConfig())
        optimizer.step(1.0, float(optimizer.grad_norm()))
        left.after()
        out.append(left.loss)
    return out
