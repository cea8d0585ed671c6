"""Training tokens a second, the share of the peak, joules a token, in bf16."""

from collections.abc import Callable, Iterator

import torch

from benchmarks.common import sizes
from benchmarks.gpu.machine import share_of_peak
from benchmarks.gpu.measure import Place, Result, large_spec, model_on, random_batch, spend
from nomoat.model.counts import dense_twin, flops_train
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer
from nomoat.train.objective import ObjectiveConfig, gradient
from nomoat.train.optim import OptimConfig, Optimizer

FILL = 0.7  # of the memory of a card; the rest is for fragments and what the optimiser takes for a moment
MOST_TOKENS = 2**18  # of one step
PROBES = (4, 12)  # rows, from which the memory of a row follows


def training(place: Place) -> Iterator[Result]:
    routed = large_spec(place.dry)
    models = {"V3-shaped": routed, "dense twin": dense_twin(routed)}
    for name, spec in models.items():
        yield from measure(place, f"{name}, Muon", spec, "muon")
    yield from measure(place, "V3-shaped, AdamW", routed, "adamw")


def measure(place: Place, name: str, spec: Spec, matrices: str) -> Iterator[Result]:
    model = model_on(place.device, spec, torch.bfloat16)
    optimizer = Optimizer(model, OptimConfig(matrices=matrices))
    rows = rows_that_fit(place, model, optimizer)
    if place.on_card:
        torch.cuda.empty_cache()
    step = step_of(model, optimizer, rows)
    step()
    spent = spend(place, step)
    tokens = rows * spec.context
    rate = tokens / spent.median
    yield Result(
        "training",
        name,
        rate,
        "tokens/s",
        f"{sizes(spec)}; {rows} rows of {spec.context}, {len(spent.seconds)} steps",
    )
    flops = rate * flops_train(spec, (spec.context + 1) / 2)
    yield Result("training", f"{name}, model FLOPs", flops / 1e12, "TFLOP/s", share_of_peak(place, flops))
    joules = spent.joules / (tokens * len(spent.seconds))
    yield Result("training", f"{name}, energy", 1e6 * joules, "J/Mtoken", spent.energy())
    if place.on_card:
        peak = torch.cuda.max_memory_allocated(place.device) / 2**30
        yield Result("training", f"{name}, memory", peak, "GiB", "the most that was allocated")


def step_of(model: Transformer, optimizer: Optimizer, rows: int) -> Callable[[], None]:
    """A whole step of training on the same rows: forward, backward, optimiser, bias balancing."""
    batch = random_batch(model.spec, rows, model.spec.context)

    def step() -> None:
        left = gradient(model, batch, ObjectiveConfig())
        optimizer.step(1.0, float(optimizer.grad_norm()))
        left.after()

    return step


def rows_that_fit(place: Place, model: Transformer, optimizer: Optimizer) -> int:
    """As many rows as fill the card to FILL, a multiple of four, by the memory that two small steps took."""
    if not place.on_card:
        return 2
    few, more = (memory_of(place, model, optimizer, rows) for rows in PROBES)
    per_row = (more - few) / (PROBES[1] - PROBES[0])
    room = FILL * torch.cuda.get_device_properties(place.device).total_memory - few
    rows = min(PROBES[0] + int(room / max(per_row, 1.0)), MOST_TOKENS // model.spec.context) // 4 * 4
    while rows > PROBES[0]:
        try:
            memory_of(place, model, optimizer, rows)
            return rows
        except torch.OutOfMemoryError:
            optimizer.clear()
        torch.cuda.empty_cache()
        rows = rows * 3 // 4 // 4 * 4
    return PROBES[0]


def memory_of(place: Place, model: Transformer, optimizer: Optimizer, rows: int) -> int:
    """The most bytes that a step with so many rows allocates."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(place.device)
    step_of(model, optimizer, rows)()
    place.wait()
    return torch.cuda.max_memory_allocated(place.device)
