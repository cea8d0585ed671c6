"""Training tokens a second, the share of the peak, joules a token, in bf16; beside transformers."""

import gc
from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.common import sizes
from benchmarks.gpu import peer
from benchmarks.gpu.grouped import with_grouped
from benchmarks.gpu.kernels import compiled, unchanged
from benchmarks.gpu.machine import share_of_peak
from benchmarks.gpu.measure import Place, Result, Shape, Spent, random_batch, raw_model, shapes, spend
from nomoat.model.counts import flops_train
from nomoat.model.spec import Dense, Spec
from nomoat.model.transformer import Transformer
from nomoat.train.objective import ObjectiveConfig, gradient
from nomoat.train.optim import OptimConfig, Optimizer

FILL = 0.7  # of the memory of a card; the rest is for fragments and what the optimiser takes for a moment
MOST_TOKENS = 2**18  # of one step
PROBES = (4, 12)  # rows, from which the memory of a row follows


def training(place: Place) -> Iterator[Result]:
    """Each shape as it is trained, with the candidate that suits it, and transformers."""
    for name, shape in shapes(place.dry).items():
        spec = shape.spec
        ways = {name: unchanged}
        if isinstance(spec.ffn, Dense):
            ways[f"{name}, compiled blocks"] = partial(compiled, device=place.device)
        else:
            ways[f"{name}, one grouped kernel"] = with_grouped
        best, rows = 0.0, None  # the candidate has the rows that fitted without it
        for what, change in ways.items():
            rows, spent = measure(place, spec, change, rows)
            yield from told(place, what, shape, rows, spent)
            rate = rows * spec.context / spent.median
            best = max(best, rate)
        yield from beside(place, name, spec, rows, best)


def measure(
    place: Place, spec: Spec, change: Callable[[Transformer], Transformer], rows: int | None
) -> tuple[int, Spent]:
    """So many rows, or as many as fit, and what steps of them take."""
    emptied(place)
    model = change(raw_model(place, spec, torch.bfloat16))
    optimizer = Optimizer(model, OptimConfig(matrices="muon"))
    rows = rows or rows_that_fit(place, model, optimizer)
    emptied(place)
    step = step_of(model, optimizer, rows)
    step()
    return rows, spend(place, step)


def emptied(place: Place) -> None:
    gc.collect()
    if place.on_card:
        torch.cuda.empty_cache()


def told(place: Place, name: str, shape: Shape, rows: int, spent: Spent) -> Iterator[Result]:
    """Speed, share of the peak beside its target, joules, memory."""
    spec = shape.spec
    tokens = rows * spec.context
    rate = tokens / spent.median
    n_steps = len(spent.seconds)
    note = f"{sizes(spec)}; {rows} rows of {spec.context}, {n_steps} steps, Muon"
    yield Result("training", name, rate, "tokens/s", note)
    n_keys = (spec.context + 1) / 2
    flops = rate * flops_train(spec, n_keys)
    share = share_of_peak(place, flops)
    target = against(place, flops, shape.target)
    yield Result("training", f"{name}, model FLOPs", flops / 1e12, "TFLOP/s", share + target)
    joules = spent.joules / (tokens * n_steps)
    what = f"{name}, energy"
    yield Result("training", what, 1e6 * joules, "J/Mtoken", spent.energy())
    if place.on_card:
        peak = torch.cuda.max_memory_allocated(place.device) / 2**30
        yield Result("training", f"{name}, memory", peak, "GiB", "the most that was allocated")


def against(place: Place, flops_per_second: float, target: float | None) -> str:
    """Whether a share of the peak is reached."""
    sheet = place.sheet()
    if target is None:
        return ""
    if sheet is None or not place.on_card:
        return f"; target {100 * target:.0f} %"
    reached = flops_per_second >= target * sheet["flops_bf16"]
    return f"; target {100 * target:.0f} %: {'reached' if reached else 'missed'}"


def beside(place: Place, name: str, spec: Spec, rows: int, rate: float) -> Iterator[Result]:
    """How many times faster than transformers, with as many rows as it has room for."""
    what = f"{name}, beside transformers"
    if peer.absent():
        yield Result("training", what, "not there", "", "pip install transformers")
        return
    emptied(place)
    model = peer.model_of(place, spec)
    step = peer.training_step(place, model, spec)
    setting = peer.fastest(place, model, step)
    while True:
        try:
            step(rows)
            break
        except torch.OutOfMemoryError:
            rows = rows // 2
        model.zero_grad(set_to_none=True)
        emptied(place)
    spent = spend(place, lambda: step(rows))
    theirs = rows * spec.context / spent.median
    note = f"its {theirs:,.0f} tokens/s: {rows} rows, bf16 weights, {setting}, sdpa, fused AdamW"
    yield Result("training", what, rate / theirs, "times", note)


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
