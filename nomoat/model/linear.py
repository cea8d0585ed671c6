"""The one matrix, as a module: what an optimiser tells apart by its role, and what adapters, FP8, int8 and
sharding replace.

`role`: "hidden" inside a block, "embedding" for the tables of the vocabulary, "router" for the experts'
centroids.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nomoat.model.copies import run_product

Role = Literal["hidden", "embedding", "router"]


class Linear(nn.Module):
    """h (…, d_in) @ weight.T with a weight (d_out, d_in), and a bias (d_out) where there is one."""

    def __init__(self, d_in: int, d_out: int, role: Role = "hidden", *, bias: bool = False):
        super().__init__()
        self.role: Role = role
        self.weight = nn.Parameter(torch.empty(d_out, d_in))
        self.bias = nn.Parameter(torch.empty(d_out)) if bias else None

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h, self.weight, self.bias)


class Embedding(nn.Module):
    """The row of each id, weight (V, D)."""

    role: Role = "embedding"

    def __init__(self, vocab_size: int, d_model: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, d_model))

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


class ExpertLinear(nn.Module):
    """One matrix for each expert: slots (E, rows, d_in) -> (E, rows, d_out), runs of `loads` rows (Z, d_in)
    -> (Z, d_out), or every row through every expert, in one product: (M, d_in) -> (M, E d_out); `flipped`:
    from (M, E d_in), summed.

    The weight is (E, d_out, d_in) or, `flipped`, (E, d_in, d_out), which is how the way down is read without
    a copy.  `n_experts` says of how many experts this process has the matrices: here of all.
    """

    role: Role = "hidden"

    def __init__(self, n_experts: int, d_in: int, d_out: int, *, flipped: bool = False):
        super().__init__()
        self.n_experts, self.flipped = n_experts, flipped
        shape = (d_in, d_out) if flipped else (d_out, d_in)
        self.weight = nn.Parameter(torch.empty(n_experts, *shape))

    def stack(self) -> Tensor:
        """The matrices that this process has, as they lie."""
        return self.weight

    def matrices(self) -> Tensor:
        """(E, d_in, d_out)."""
        return self.stack() if self.flipped else self.stack().mT

    def forward(self, rows: Tensor, loads: list[int] | None = None) -> Tensor:
        if loads is not None:
            return run_product(rows, self.matrices(), loads)
        if rows.ndim == 3:
            return torch.bmm(rows, self.matrices())
        flat = self.stack().flatten(0, 1)
        return rows @ flat if self.flipped else F.linear(rows, flat)


def roles(model: nn.Module) -> dict[str, Role]:
    """The role of each matrix of a model, by the name of its parameter; what has none here is a gain or a
    bias."""
    matrices = (Linear, Embedding, ExpertLinear)
    return {f"{name}.weight": m.role for name, m in model.named_modules() if isinstance(m, matrices)}
