"""Matrix products as DeepSeek-V3 trains them in FP8 (arXiv 2412.19437, section 3.3), emulated on any device.

Both operands of a product are rounded to E4M3 with a scale of their own for each tile of 128 numbers along
the summed axis, or for each 128 x 128 block of a weight; the products of a linear map (forward, by its input,
by its weight) all are such.  Sums are in float32.  What the report keeps exact stays so: embedding, head,
router, norms, the attention itself, master weights and moments.

Departures: the report stores some activations with scales that are powers of two, and one in E5M6; here all
scales are max / 448.  The tensor cores' own sums have fewer bits.  Speed is not emulated: a rounding costs
more than it saves.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nomoat.model.copies import run_product
from nomoat.model.linear import roles

TILE = 128
LARGEST = 448.0  # of torch.float8_e4m3fn
SMALLEST = 2.0**-126  # of a scale: float32's smallest normal number
BLOCK, ALONG_ROW, ALONG_COLUMN = (TILE, TILE), (1, TILE), (TILE, 1)
PRODUCTS = (torch.bmm, torch.matmul, torch.mm, Tensor.bmm, Tensor.matmul, Tensor.mm, Tensor.__matmul__)


def rounded(x: Tensor, tile: tuple[int, int]) -> Tensor:
    """x after a round trip through E4M3, float32, each `tile` of the last two axes scaled to reach 448."""
    rows, columns = tile
    n_rows, n_columns = x.shape[-2:]
    missing_rows = -n_rows % rows
    missing_columns = -n_columns % columns
    padded = F.pad(x.float(), (0, missing_columns, 0, missing_rows))
    tiles = padded.unflatten(-1, (-1, columns))
    tiles = tiles.unflatten(-3, (-1, rows))
    largest = tiles.abs().amax((-3, -1), keepdim=True)
    scale = largest.div_(LARGEST)
    scale = scale.clamp_(min=SMALLEST)
    tiles = tiles / scale
    tiles = tiles.to(torch.float8_e4m3fn)
    tiles = tiles.float().mul_(scale)
    whole = tiles.flatten(-2).flatten(-3, -2)
    return whole[..., :n_rows, :n_columns]


class Product(torch.autograd.Function):
    """x @ w for activations x (…, M, K) and a weight w (…, K, N), the three products in FP8."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor) -> Tensor:
        x_8, w_8 = rounded(x, ALONG_ROW), rounded(w, BLOCK)
        ctx.save_for_backward(x_8, w)  # kept as rounded here, and rounded once more along the other axis
        return (x_8 @ w_8).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        x_8, w = ctx.saved_tensors
        grad_x = rounded(grad, ALONG_ROW) @ rounded(w, BLOCK).mT
        grad_w = rounded(x_8, ALONG_COLUMN).mT @ rounded(grad, ALONG_COLUMN)
        return grad_x.to(grad.dtype), grad_w.to(w.dtype)


def runs(rows: Tensor, matrices: Tensor, loads: list[int]) -> Tensor:
    """As run_product."""
    products = []
    for run, matrix in zip(rows.split(loads), matrices):
        if len(run):
            products.append(Product.apply(run, matrix))
    return torch.cat(products)


class emulated(TorchFunctionMode):
    """`with emulated(model):` the model's hidden matrices are multiplied in FP8, forward and backward."""

    def __init__(self, model: nn.Module):
        super().__init__()
        role = roles(model)
        hidden = [p for name, p in model.named_parameters() if role.get(name) == "hidden"]
        self.weights = {p.untyped_storage().data_ptr() for p in hidden}

    def _is_hidden(self, w: Tensor) -> bool:
        return w.untyped_storage().data_ptr() in self.weights

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        is_product = func in (F.linear, run_product) or func in PRODUCTS
        if not (is_product and self._is_hidden(args[1])):
            return func(*args, **(kwargs or {}))
        x, w = args[0], args[1]
        if func is run_product:
            return runs(x, w, args[2])
        if func is F.linear:
            w = w.mT
        if w.ndim == 3:  # one product for each expert
            return Product.apply(x, w)
        x_MK = x.flatten(0, -2)
        out_MN = Product.apply(x_MK, w)
        return out_MN.unflatten(0, x.shape[:-1])
