"""What is only faster: each function gives what its formula says, and the slow way beside it is what the tests compare.

None of this is part of what a model is; `Kernels` of spec.py chooses between the ways.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from nomoat.model.spec import Kernels

CLOSED = -1e30  # the score of a position that may not be attended to; finite, so that an all-closed row stays a number
HALVED = 128  # plain attention cuts rows of so many positions or more in halves
ROW_TILE = 64  # expert groups are padded to a multiple of this: few distinct shapes, so that kernels are reused

# --- attention ---


class PlainAttention(torch.autograd.Function):
    """softmax(scale q k^T + bias) v with the weights kept, at T x S memory: on a processor in bf16 two to three times
    faster than the fused kernel at a few hundred positions (LOG.md).

        S = scale q k^T + bias,  P = softmax(S),  o = P v
        dv = P^T do,  dP = do v^T,  dS = P (dP - sum_s dP P),  dq = scale dS k,  dk = scale dS^T q

    Long rows are cut in halves: every mask here is causal, so that the first never reads the second half of the keys.
    """

    @staticmethod
    def forward(ctx, q_BHTN, k_BHSN, v_BHSW, bias, scale: float) -> Tensor:
        B, H, T, _ = q_BHTN.shape
        q, k, v = q_BHTN.flatten(0, 1), k_BHSN.flatten(0, 1), v_BHSW.flatten(0, 1)
        cuts = (0, T // 2, T) if T >= HALVED else (0, T)
        saved, out = [], []
        for a, b in pairwise(cuts):
            q_i, k_i, v_i = q[:, a:b].contiguous(), k[:, :b].contiguous(), v[:, :b].contiguous()
            bias_i = bias[..., a:b, :b].expand(B, H, -1, -1).flatten(0, 1)
            p = torch.baddbmm(bias_i, q_i, k_i.mT, alpha=scale).softmax(-1)
            out.append(torch.bmm(p, v_i))
            saved += [q_i, k_i, v_i, p]
        ctx.save_for_backward(*saved)
        ctx.scale = scale
        whole = torch.cat(out, 1) if len(out) > 1 else out[0]
        return whole.view(B, H, T, -1)

    @staticmethod
    def backward(ctx, grad_BHTW):
        saved, grad_q, grad_kv = ctx.saved_tensors, [], None
        grad = grad_BHTW.flatten(0, 1)
        while saved:  # from the last queries, which read every key, to the first
            *saved, q, k, v, p = saved
            grad, grad_i = grad.split((grad.shape[1] - len(q[0]), len(q[0])), 1)
            grad_i = grad_i.contiguous()
            grad_p = torch.bmm(grad_i, v.mT)
            grad_score = torch._softmax_backward_data(grad_p, p, -1, p.dtype)
            grad_q.insert(0, torch.bmm(grad_score, k))
            pair = torch.bmm(q.mT, grad_score), torch.bmm(grad_i.mT, p)  # transposed: the large factor stays as it lies
            if grad_kv is None:
                grad_kv = pair
                continue
            for whole, part in zip(grad_kv, pair):
                whole[..., : part.shape[-1]] += part
        grad_q = torch.cat(grad_q, 1) if len(grad_q) > 1 else grad_q[0]
        grads = grad_q.mul_(ctx.scale), grad_kv[0].mul_(ctx.scale).mT, grad_kv[1].mT
        return *(g.unflatten(0, grad_BHTW.shape[:2]) for g in grads), None, None


def attend(q_BHTN: Tensor, k_BUSN: Tensor, v_BUSW: Tensor, mask: Tensor | None, scale: float, kernels: Kernels) -> Tensor:
    """softmax(scale q k^T) v over whole rows; `mask` is what `mask_for` made.  H / U query heads share a key and value."""
    groups = q_BHTN.shape[1] // k_BUSN.shape[1]
    if kernels.attention == "plain":
        if groups > 1:
            k_BUSN, v_BUSW = k_BUSN.repeat_interleave(groups, 1), v_BUSW.repeat_interleave(groups, 1)
        return PlainAttention.apply(q_BHTN, k_BUSN, v_BUSW, mask, scale)
    return F.scaled_dot_product_attention(
        q_BHTN, k_BUSN, v_BUSW, mask, is_causal=mask is None, scale=scale, enable_gqa=groups > 1
    )


def mask_for(kernels: Kernels, mask: Tensor | None, T: int, n_heads: int, like: Tensor) -> Tensor | None:
    """The mask of a whole forward pass in the form that `attend` reads: boolean or None (causal), or a bias.

    `mask` is (B or 1, 1, T, T), true where a query may attend; dtype and device are those of `like`.
    """
    if kernels.attention == "fused":
        return mask
    if mask is None:
        mask = torch.ones(1, 1, T, T, dtype=torch.bool, device=like.device).tril()
    bias = torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill_(~mask, CLOSED)
    return bias if len(bias) == 1 else bias.repeat(1, n_heads, 1, 1)  # once, instead of once a layer


def keys_read(kernels: Kernels, T: int) -> float:
    """Keys that one query of a row of T is multiplied with, on average, as computed here."""
    if kernels.attention == "fused":
        return T / 2
    half = T // 2 if T >= HALVED else 0
    return (half * half + (T - half) * T) / T


# --- norms and SwiGLU ---


class RMSNorm(torch.autograd.Function):
    """y = g x / r with r = sqrt(mean(x^2) + eps), in float32.

        dx = g dy / r - x sum(g dy x) / (D r^3),  dg = sum dy x / r
    """

    @staticmethod
    def forward(ctx, x, weight, eps: float) -> Tensor:
        wide = x.to(torch.float32, copy=True)
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return wide.mul_(scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        x, weight, scale = ctx.saved_tensors
        D, gain = x.shape[-1], weight.float()
        product = grad.to(torch.float32, copy=True).mul_(x)
        grad_weight = (scale.view(1, -1) @ product.view(-1, D)).view(D)
        back = (product @ gain).unsqueeze(-1).mul_(scale**3).div_(-D)
        grad_x = product.copy_(grad).mul_(gain).mul_(scale).addcmul_(x.float(), back)
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), None


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of one matrix that holds both side by side.

    The copy pays on the CPU: silu of narrow strided halves leaves its vector path and takes eight times as long.
    """
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate.contiguous()) * up


# --- experts: the copies of the tokens, sorted ---


class Slots:
    """Places for the copies of the tokens, expert by expert: each expert has `n_rows` and fills the first of them.

    `slot_MK` is the place of each copy, `token` whose copy each place holds.  An empty place holds token 0 and is given
    gate zero, so that it adds nothing to any sum or gradient.
    """

    def __init__(self, expert_MK: Tensor, n_experts: int):
        expert_Z = expert_MK.flatten()
        load_E = torch.bincount(expert_Z, minlength=n_experts)
        self.n_rows = -(-int(load_E.max()) // ROW_TILE) * ROW_TILE
        first_E = torch.arange(0, n_experts * self.n_rows, self.n_rows, device=load_E.device)
        order_Z = expert_Z.argsort(stable=True)
        place_Z = torch.arange(len(order_Z), device=load_E.device)
        place_Z += (first_E - load_E.cumsum(0) + load_E).repeat_interleave(load_E)
        self.slot_MK = torch.empty_like(expert_Z).index_copy_(0, order_Z, place_Z).view_as(expert_MK)
        token = expert_Z.new_zeros(n_experts * self.n_rows)
        self.token = token.index_copy_(0, place_Z, order_Z // expert_MK.shape[1])

    def fill(self, h_MD: Tensor) -> Tensor:
        """Every slot's token: (experts, n_rows, D)."""
        return _Fill.apply(h_MD, self.token, self.slot_MK).unflatten(0, (-1, self.n_rows))

    def gates(self, gate_MK: Tensor) -> Tensor:
        """Every slot's gate, zero where it is empty: (experts, n_rows, 1)."""
        gate = gate_MK.new_zeros(len(self.token))
        return gate.index_copy(0, self.slot_MK.flatten(), gate_MK.flatten()).view(-1, self.n_rows, 1)

    def collect(self, slots: Tensor) -> Tensor:
        """The sum of every token's copies, MD: the transpose of `fill`."""
        return _Collect.apply(slots.flatten(0, 1), self.token, self.slot_MK)


class _Fill(torch.autograd.Function):
    """out[slot] = h[token[slot]]; dh[m] = sum_k dout[slot[m, k]].

    The gradient reads the copies of each token; adding them up in place, row by row, takes ten times as long.
    """

    @staticmethod
    def forward(ctx, h_MD, token, slot_MK):
        ctx.save_for_backward(slot_MK)
        return h_MD.index_select(0, token)

    @staticmethod
    def backward(ctx, grad):
        return F.embedding_bag(*ctx.saved_tensors, grad, mode="sum"), None, None


class _Collect(torch.autograd.Function):
    """out[m] = sum_k slots[slot[m, k]]; dslots[slot] = dout[token[slot]], which an empty slot's gate zero takes out."""

    @staticmethod
    def forward(ctx, slots, token, slot_MK):
        ctx.save_for_backward(token)
        return F.embedding_bag(slot_MK, slots, mode="sum")

    @staticmethod
    def backward(ctx, grad_MD):
        return grad_MD.index_select(0, *ctx.saved_tensors), None, None
