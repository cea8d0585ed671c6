"""The copies of the tokens that go to experts, sorted by expert: in runs about as long as they are, or in
slots of one length, which are one product.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from nomoat.model.kernels import ROW_TILE, rows_of

FEW = 8  # slots of few copies are a multiple of so many


class Copies:
    """Copies of tokens in some order: `slot_MK` is the place of each copy, `token` whose copy each place
    holds.

    With `real_MK` the copies for which it is false have no place, and weight zero in every sum.
    """

    def __init__(self, token: Tensor, slot_MK: Tensor, real_MK: Tensor | None = None):
        self.token, self.slot_MK, self.real_MK = token, slot_MK, real_MK

    def fill(self, h_MD: Tensor) -> Tensor:
        """Every place's token: (places, D)."""
        return _Fill.apply(h_MD, self.token, self.slot_MK, self.real_MK)

    def collect(self, rows: Tensor) -> Tensor:
        """The sum of every token's copies, MD: the transpose of `fill`."""
        return _Collect.apply(rows, self.token, self.slot_MK, self.real_MK)


def run_product(rows: Tensor, matrices: Tensor, loads: list[int]) -> Tensor:
    """rows[run e] @ matrices[e]; a TorchFunctionMode sees it as one function."""
    if has_torch_function((rows, matrices)):
        return handle_torch_function(run_product, (rows, matrices), rows, matrices, loads)
    return RunProduct.apply(rows, matrices, loads)


class RunProduct(torch.autograd.Function):
    """rows[run e] @ matrices[e], the runs one behind the other: nothing is padded to the longest run."""

    @staticmethod
    def forward(ctx, rows: Tensor, matrices: Tensor, loads: list[int]) -> Tensor:
        ctx.save_for_backward(rows, matrices)
        ctx.loads = loads
        out = rows.new_empty(len(rows), matrices.shape[2])
        for part, run, matrix in zip(out.split(loads), rows.split(loads), matrices):
            torch.mm(run, matrix, out=part)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        rows, matrices = ctx.saved_tensors
        grads = grad.split(ctx.loads)
        grad_rows = torch.empty_like(rows)
        for part, of_run, matrix in zip(grad_rows.split(ctx.loads), grads, matrices):
            torch.mm(of_run, matrix.mT, out=part)
        if not ctx.needs_input_grad[1]:
            return grad_rows, None, None
        grad_matrices = torch.empty_like(matrices)
        for part, run, of_run in zip(grad_matrices, rows.split(ctx.loads), grads):
            torch.mm(run.mT, of_run, out=part)
        return grad_rows, grad_matrices, None


class Slots:
    """Places for the copies of the tokens, expert by expert: each expert fills the first of its own.

    `loads` says how many places each has: of its number of copies what `rows` gives.  Without `rows` all have
    what the busiest needs, so that they are one product, and `loads` is None.  An empty place holds token 0
    and is given gate zero, so that it adds nothing to any sum or gradient.  A copy for expert `n_experts` or
    one behind it has no place.
    """

    def __init__(self, expert_MK: Tensor, n_experts: int, rows: Callable[[int], int] | None):
        self.n_experts = n_experts
        expert_Z = expert_MK.flatten()
        every_E = torch.bincount(expert_Z, minlength=n_experts)
        load_E = every_E[:n_experts]
        if rows is None:
            self.loads = None
            rows_E = self._of_one_length(load_E, len(expert_Z))
        else:
            self.loads = list(map(rows, load_E.tolist()))
            rows_E = torch.tensor(self.loads)
        self.n_places = int(rows_E.sum())
        self.place = self._places(load_E, rows_E)
        order_Z = expert_Z.argsort(stable=True)
        self.copy = order_Z[: len(self.place)]  # those that have a place, expert by expert
        self.copies = self._copies(expert_MK)

    def _copies(self, expert_MK: Tensor) -> Copies:
        token = self.copy.new_zeros(self.n_places)
        token_of_copy = self.copy // expert_MK.shape[1]
        token.index_copy_(0, self.place, token_of_copy)
        slot_Z = self.copy.new_zeros(expert_MK.numel())
        slot_Z.index_copy_(0, self.copy, self.place)
        slot_MK = slot_Z.view_as(expert_MK)
        real_MK = None
        if len(self.copy) < len(slot_Z):
            real_MK = expert_MK < self.n_experts
        return Copies(token, slot_MK, real_MK)

    def _of_one_length(self, load_E: Tensor, n_copies: int) -> Tensor:
        """As many places for each as the busiest needs, of a tile."""
        tile = ROW_TILE if n_copies >= self.n_experts * ROW_TILE else FEW
        return (-(-load_E.max() // tile) * tile).expand(self.n_experts)

    @staticmethod
    def _places(load_E: Tensor, rows_E: Tensor) -> Tensor:
        """The first places of each expert, as many as it has copies."""
        first_E, before_E = rows_E.cumsum(0) - rows_E, load_E.cumsum(0) - load_E
        shift = (first_E - before_E).repeat_interleave(load_E)
        return torch.arange(len(shift), device=shift.device) + shift

    def fill(self, h_MD: Tensor) -> Tensor:
        """Every place's token: (places, D), or (experts, rows, D) of one product."""
        return self._by_expert(self.copies.fill(h_MD))

    def gates(self, gate_MK: Tensor) -> Tensor:
        """Every place's gate, zero where it is empty, in a last axis of 1."""
        gate = gate_MK.new_zeros(self.n_places)
        copied = gate.index_copy(0, self.place, gate_MK.flatten().index_select(0, self.copy))
        return self._by_expert(copied[:, None])

    def _by_expert(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (self.n_experts, -1)) if self.loads is None else rows

    def collect(self, rows: Tensor) -> Tensor:
        """The sum of every token's copies, MD."""
        return self.copies.collect(rows if self.loads is not None else rows.flatten(0, 1))


class _Fill(torch.autograd.Function):
    """out[slot] = h[token[slot]]; dh[m] = sum_k dout[slot[m, k]].

    The gradient reads the copies of each token; adding them up in place, row by row, takes ten times as long.
    """

    @staticmethod
    def forward(ctx, h_MD, token, slot_MK, real_MK):
        ctx.save_for_backward(slot_MK, real_MK)
        return h_MD.index_select(0, token)

    @staticmethod
    def backward(ctx, grad):
        return _summed(grad, *ctx.saved_tensors), None, None, None


class _Collect(torch.autograd.Function):
    """out[m] = sum_k slots[slot[m, k]]; dslots[slot] = dout[token[slot]], which an empty slot's gate zero
    takes out.
    """

    @staticmethod
    def forward(ctx, slots, token, slot_MK, real_MK):
        ctx.save_for_backward(token)
        return _summed(slots, slot_MK, real_MK)

    @staticmethod
    def backward(ctx, grad_MD):
        return grad_MD.index_select(0, *ctx.saved_tensors), None, None, None


def by_expert(expert_MK: Tensor, n_experts: int, like: Tensor) -> Slots:
    """On a processor a product for each expert where it has many tokens, else one product for all."""
    many = like.device.type == "cpu" and expert_MK.numel() >= n_experts * ROW_TILE
    return Slots(expert_MK, n_experts, partial(rows_of, like=like) if many else None)


def _summed(rows: Tensor, slot_MK: Tensor, real_MK: Tensor | None) -> Tensor:
    """sum_k rows[slot[m, k]], of the copies that are real."""
    if not len(rows):
        return rows.new_zeros(len(slot_MK), rows.shape[1])
    weight_MK = None if real_MK is None else real_MK.to(rows.dtype)
    return F.embedding_bag(slot_MK, rows, mode="sum", per_sample_weights=weight_MK)
