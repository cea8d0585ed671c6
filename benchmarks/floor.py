"""What a step of reinforcement learning would take if it were nothing but the products of its matrices.

Each shape is multiplied alone, by torch's plain product, in float32 or whatever the step multiplies in: the
rows of a pass through every matrix for the update, forward and for both gradients, one row of each answer
and the prompts for sampling.  Left out, so that the floor is lower than can be: attention's own products,
softmax, norms, routing, the optimiser.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nomoat.model.linear import ExpertLinear, Linear
from nomoat.model.spec import Routed
from nomoat.model.transformer import Transformer
from nomoat.rl.rows import micro_tokens

Clock = Callable[[], float]
Shape = tuple[int, int, int]  # rows, width in, width out
ROUNDS = 5


@dataclass(frozen=True)
class Floor:
    """Seconds of the products alone, and the FLOPs of the update's."""

    sampling: float
    update: float
    update_flops: float


@dataclass(frozen=True)
class Sizes:
    """Of a step: columns of the update, its targets, answers side by side, tokens of each, of the prompts."""

    columns: int
    targets: int
    rows: int
    n_new: int
    prompts: int


def matrices(model: Transformer, rows: int) -> Counter[Shape]:
    """The products of so many rows with the blocks' matrices, of experts with those that are active."""
    shapes: Counter[Shape] = Counter()
    ffn = model.spec.ffn
    for module in model.blocks.modules():
        if isinstance(module, Linear):
            d_out, d_in = module.weight.shape
            shapes[rows, d_in, d_out] += 1
        elif isinstance(module, ExpertLinear) and isinstance(ffn, Routed):
            _, d_in, d_out = module.matrices().shape
            of_each = max(rows * ffn.n_active // ffn.n_routed, 1)
            shapes[of_each, d_in, d_out] += ffn.n_routed
    return shapes


def seconds_of(shape: Shape, dtype: torch.dtype, clock: Clock, *, backward: bool) -> float:
    """One product, with `backward` its two gradients besides; the median of a few rounds."""
    rows, d_in, d_out = shape
    x, w, g = (torch.randn(size).to(dtype) for size in ((rows, d_in), (d_out, d_in), (rows, d_out)))
    taken = []
    for _ in range(ROUNDS + 1):
        start = clock()
        torch.mm(x, w.T)
        if backward:
            torch.mm(g, w)
            torch.mm(g.T, x)
        taken.append(clock() - start)
    return statistics.median(taken[1:])


def floor_of(model: Transformer, sizes: Sizes, clock: Clock) -> Floor:
    """For the precision and threads that are set."""
    head = (model.spec.d_model, model.spec.vocab_size)

    def total(shapes: Counter[Shape], *, backward: bool) -> float:
        of_all = 0.0
        for shape, n in shapes.items():
            of_all += n * seconds_of(shape, model.dtype, clock, backward=backward)
        return of_all

    at_once = min(sizes.columns, micro_tokens(model))
    n_passes = sizes.columns / at_once
    some = min(sizes.targets, 512)
    in_blocks = matrices(model, at_once)
    in_head = Counter({(some, *head): 1})
    update = n_passes * total(in_blocks, backward=True)
    update += sizes.targets / some * total(in_head, backward=True)
    step = matrices(model, sizes.rows)
    step[sizes.rows, *head] += 1
    prefill = matrices(model, sizes.prompts)
    sampling = sizes.n_new * total(step, backward=False) + total(prefill, backward=False)
    multiplied = sum(n * math.prod(shape) for shape, n in in_blocks.items())
    flops = 6 * (n_passes * multiplied + sizes.targets * math.prod(head))
    return Floor(sampling, update, flops)
