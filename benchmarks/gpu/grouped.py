"""Candidates for a card: the experts' products as one grouped kernel, products in FP8 with block scales.

Each stands beside the formula that it has to equal (laws in kernels.py).  None is in the model: what a card
shows to be faster moves there.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from nomoat.lab.fp8 import LARGEST, SMALLEST, TILE
from nomoat.model.copies import Copies
from nomoat.model.kernels import swiglu
from nomoat.model.moe import Experts
from nomoat.model.transformer import Transformer

WIDTH = 8  # bf16 numbers in 16 bytes, of which strides have to be multiples


# --- experts ---


class GroupedProduct(torch.autograd.Function):
    """Rows [ends[e-1], ends[e]) of rows (Z, D) times matrices[e] (E, D, N); zeros behind the last end.

    The kernel leaves those rows as they are in memory, forward and backward, and takes no gradient that is
    not dense.
    """

    @staticmethod
    def forward(ctx, rows: Tensor, matrices: Tensor, ends_E: Tensor) -> Tensor:
        ctx.save_for_backward(rows, matrices, ends_E)
        return cleared(F.grouped_mm(rows, matrices, offs=ends_E), ends_E)

    @staticmethod
    def backward(ctx, grad: Tensor):
        rows, matrices, ends_E = ctx.saved_tensors
        return *products_back(grad, rows, matrices, ends_E), None


def products_back(grad: Tensor, rows: Tensor, matrices: Tensor, ends_E: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients by the rows and by the matrices."""
    grad = grad.contiguous()
    grad_rows = F.grouped_mm(grad, matrices.mT, offs=ends_E)
    grad_matrices = F.grouped_mm(rows.mT, grad, offs=ends_E)
    return cleared(grad_rows, ends_E), grad_matrices


def cleared(rows: Tensor, ends_E: Tensor) -> Tensor:
    """The same, zeros behind the last end."""
    number = torch.arange(len(rows), device=rows.device)
    real = number < ends_E[-1]
    return torch.where(real[:, None], rows, 0)


def grouped_product(rows: Tensor, matrices: Tensor, ends_E: Tensor) -> Tensor:
    """The same of any widths: they are filled up to multiples of WIDTH."""
    _, D, N = matrices.shape
    deep = -D % WIDTH
    wide = -N % WIDTH
    if deep or wide:
        rows = F.pad(rows, (0, deep))
        matrices = F.pad(matrices, (0, wide, 0, deep))
    out = GroupedProduct.apply(rows, matrices, ends_E)
    return out[:, :N]


def grouped(layer: Experts, h_MD: Tensor, expert_MK: Tensor, gate_MK: Tensor) -> Tensor:
    """What `Experts.multiply` gives, without a number that the processor has to wait for."""
    copies, order, ends_E = by_expert(expert_MK, layer.w_down.n_experts)
    gate_Z = gate_MK.to(h_MD.dtype).flatten()
    up = layer.w_gate_up.matrices()
    down = layer.w_down.matrices()
    gate_up = grouped_product(copies.fill(h_MD), up, ends_E)
    hidden = swiglu(gate_up) * gate_Z[order][:, None]
    out = grouped_product(hidden, down, ends_E)
    return copies.collect(out)


def by_expert(expert_MK: Tensor, n_experts: int) -> tuple[Copies, Tensor, Tensor]:
    """The copies of all tokens expert by expert, which copy is at each place, and where each expert ends."""
    expert_Z = expert_MK.flatten()
    order = expert_Z.argsort(stable=True)
    one_Z = torch.ones_like(expert_Z)
    load_E = expert_Z.new_zeros(n_experts)
    load_E.scatter_add_(0, expert_Z, one_Z)
    slot_Z = torch.empty_like(order)
    slot_Z[order] = torch.arange(len(order), device=order.device)
    token = order // expert_MK.shape[1]
    copies = Copies(token, slot_Z.view_as(expert_MK))
    return copies, order, load_E.cumsum(0).int()


def with_grouped(model: Transformer) -> Transformer:
    """The model, its experts multiplied by `grouped`."""
    for module in model.modules():
        if isinstance(module, Experts):
            module.product = partial(grouped, module)
    return model


# --- FP8 ---


def eighth(x: Tensor, n_rows: int) -> tuple[Tensor, Tensor]:
    """x (M, K) in E4M3 and the scales (M / n_rows, K / TILE), float32, that it is to be multiplied with: V3
    report, section 3.3.2.
    """
    tiles = x.float().unflatten(-1, (-1, TILE))
    tiles = tiles.unflatten(0, (-1, n_rows))
    largest = tiles.abs().amax((1, 3), keepdim=True)
    scale = (largest / LARGEST).clamp_(min=SMALLEST)
    eight = (tiles / scale).to(torch.float8_e4m3fn)
    return eight.flatten(2).flatten(0, 1), scale.squeeze(3).squeeze(1)


def scaled_product(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """A (M, K) times B (N, K) transposed, bf16, of what `eighth` gave for tiles of one or of TILE rows."""
    (a_MK, _), (b_NK, _) = a, b
    if a_MK.device.type == "cpu":
        return (widened(*a) @ widened(*b).mT).bfloat16()
    scale_a, recipe_a = as_read(*a)
    scale_b, recipe_b = as_read(*b)
    return F.scaled_mm(
        a_MK, b_NK.t(), scale_a, recipe_a, scale_b, recipe_b, output_dtype=torch.bfloat16
    )


def as_read(eight: Tensor, scale: Tensor) -> tuple[Tensor, F.ScalingType]:
    """Scales as cuBLAS wants them: of single rows the rows side by side; of blocks the blocks of K side by
    side, filled up to a multiple of four, and turned.
    """
    if len(scale) == len(eight):
        return scale.t().contiguous().t(), F.ScalingType.BlockWise1x128
    filled = F.pad(scale, (0, -scale.shape[1] % 4))
    return filled.contiguous().t(), F.ScalingType.BlockWise128x128


def widened(eight: Tensor, scale: Tensor) -> Tensor:
    """What it stands for, float32."""
    n_rows = len(eight) // len(scale)
    rows = scale.repeat_interleave(n_rows, 0)
    return eight.float() * rows.repeat_interleave(TILE, 1)


Eight = tuple[Tensor, Tensor]  # numbers and scales
Operands = Callable[[], tuple[Eight, Eight]]


def products_of(x_MK: Tensor, w_NK: Tensor, grad_MN: Tensor) -> dict[str, Operands]:
    """The three products of a linear map in training, each as its two operands in FP8."""
    return {
        "forward": lambda: (eighth(x_MK, 1), eighth(w_NK, TILE)),
        "by the input": lambda: (eighth(grad_MN, 1), eighth(w_NK.t().contiguous(), TILE)),
        "by the weight": lambda: (eighth(grad_MN.t().contiguous(), 1), eighth(x_MK.t().contiguous(), 1)),
    }
