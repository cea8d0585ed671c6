"""Twenty steps of training on the processor and on the device: the same weights, batches and optimiser."""

from collections.abc import Iterator

import torch

from benchmarks.gpu.measure import DTYPES, Place, Result, model_on, random_batch, small_spec
from nomoat.train.objective import ObjectiveConfig, gradient
from nomoat.train.optim import OptimConfig, Optimizer

PROCESSOR = torch.device("cpu")
ROWS, LENGTH, N_BATCHES = 8, 128, 4


def losses(place: Place) -> Iterator[Result]:
    """How far apart the losses are, in fp32 and bf16, and whether the device repeats itself."""
    n_steps = 4 if place.dry else 20
    curves = {}
    for name, dtype in DTYPES.items():
        here, there = (train(device, dtype, n_steps) for device in (PROCESSOR, place.device))
        again = train(place.device, dtype, n_steps)
        curves[name] = here
        gaps = [abs(a - b) for a, b in zip(here, there)]
        ends = f"{here[0]:.4f} to {here[-1]:.4f}, on the device {there[0]:.4f} to {there[-1]:.4f}"
        yield Result("losses", f"{name}, first step", gaps[0], "nats", ends)
        yield Result("losses", f"{name}, largest of {n_steps} steps", max(gaps), "nats", series(gaps))
        repeated = max(abs(a - b) for a, b in zip(there, again))
        yield Result("losses", f"{name}, the device against itself", repeated, "nats", "0: to the bit")
    between = max(abs(a - b) for a, b in zip(*curves.values()))
    yield Result("losses", "fp32 against bf16, on the processor", between, "nats", "what rounding alone does")


def series(gaps: list[float]) -> str:
    return "steps 2, 3, … : " + " ".join(f"{gap:.1e}" for gap in gaps[1:])


def train(device: torch.device, dtype: torch.dtype, n_steps: int) -> list[float]:
    """The loss of each step; Muon for matrices, AdamW for the rest, experts kept balanced."""
    spec = small_spec(n_layers=4, d_model=128, d_ffn=256, d_expert=64)
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
