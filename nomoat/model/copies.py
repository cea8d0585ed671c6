"""The copies of the tokens that go to experts, sorted by expert: in runs as long as they are, or in slots of
one length, which are one product.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

ROW_TILE = 64  # groups of an expert are padded to a multiple: few distinct shapes, so that kernels are reused
FEW = 8  # small groups to a multiple of so many


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


class Runs:
    """The copies of the tokens, expert by expert, as many of each as there are: `loads`.  A copy for expert
    `n_experts` or one behind it has no place.
    """

    def __init__(self, expert_MK: Tensor, n_experts: int):
        expert_Z = expert_MK.flatten()
        load_E = torch.bincount(expert_Z, minlength=n_experts)
        self.loads = load_E[:n_experts].tolist()
        n_real = sum(self.loads)
        self.copy = expert_Z.argsort(stable=True)[:n_real]
        token = self.copy // expert_MK.shape[1]
        slot_Z = torch.zeros_like(expert_Z)
        slot_Z[self.copy] = torch.arange(n_real, device=slot_Z.device)
        slot_MK = slot_Z.view_as(expert_MK)
        real_MK = None if n_real == len(expert_Z) else expert_MK < n_experts
        self.copies = Copies(token, slot_MK, real_MK)

    def fill(self, h_MD: Tensor) -> Tensor:
        """Every place's token: (places, D)."""
        return self.copies.fill(h_MD)

    def gates(self, gate_MK: Tensor) -> Tensor:
        """Every place's gate: (places, 1)."""
        return gate_MK.flatten().index_select(0, self.copy)[:, None]

    def collect(self, rows: Tensor) -> Tensor:
        """The sum of every token's copies, MD."""
        return self.copies.collect(rows)


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
    """Places for the copies of the tokens, expert by expert: each expert has `n_rows` and fills the first of
    them.

    An empty place holds token 0 and is given gate zero, so that it adds nothing to any sum or gradient.  A
    copy for expert `n_experts` or one behind it has no place.
    """

    loads = None

    def __init__(self, expert_MK: Tensor, n_experts: int):
        expert_Z = expert_MK.flatten()
        load_E = torch.bincount(expert_Z, minlength=n_experts)[:n_experts]
        many = expert_MK.numel() >= n_experts * ROW_TILE
        tile = ROW_TILE if many else FEW
        self.n_experts = n_experts
        self.n_rows = -(-int(load_E.max()) // tile) * tile

        # The copies that have a place, expert by expert, and their places.
        self.place = self._places(load_E)
        n_real = len(self.place)
        self.copy = expert_Z.argsort(stable=True)[:n_real]
        token = expert_Z.new_zeros(n_experts * self.n_rows)
        token.index_copy_(0, self.place, self.copy // expert_MK.shape[1])
        slot_Z = torch.zeros_like(expert_Z)
        slot_Z.index_copy_(0, self.copy, self.place)
        real_MK = None if n_real == len(expert_Z) else expert_MK < n_experts
        self.copies = Copies(token, slot_Z.view_as(expert_MK), real_MK)

    def _places(self, load_E: Tensor) -> Tensor:
        """The first places of each expert, as many as it has copies."""
        device = load_E.device
        first_E = torch.arange(self.n_experts, device=device) * self.n_rows
        shift_E = first_E - load_E.cumsum(0) + load_E
        shift = shift_E.repeat_interleave(load_E)
        return torch.arange(len(shift), device=device) + shift

    def fill(self, h_MD: Tensor) -> Tensor:
        """Every slot's token: (experts, n_rows, D)."""
        return self.copies.fill(h_MD).unflatten(0, (self.n_experts, self.n_rows))

    def gates(self, gate_MK: Tensor) -> Tensor:
        """Every slot's gate, zero where it is empty: (experts, n_rows, 1)."""
        gate = gate_MK.new_zeros(self.n_experts * self.n_rows)
        copied = gate.index_copy(0, self.place, gate_MK.flatten().index_select(0, self.copy))
        return copied.view(self.n_experts, self.n_rows, 1)

    def collect(self, slots: Tensor) -> Tensor:
        """The sum of every token's copies, MD."""
        return self.copies.collect(slots.flatten(0, 1))


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


def by_expert(expert_MK: Tensor, n_experts: int) -> Runs | Slots:
    """On a processor runs of many tokens, else slots, which are one product."""
    many = expert_MK.numel() >= n_experts * ROW_TILE
    return (Runs if many and expert_MK.device.type == "cpu" else Slots)(expert_MK, n_experts)


def _summed(rows: Tensor, slot_MK: Tensor, real_MK: Tensor | None) -> Tensor:
    """sum_k rows[slot[m, k]], of the copies that are real."""
    if not len(rows):
        return rows.new_zeros(len(slot_MK), rows.shape[1])
    weight_MK = None if real_MK is None else real_MK.to(rows.dtype)
    return F.embedding_bag(slot_MK, rows, mode="sum", per_sample_weights=weight_MK)
