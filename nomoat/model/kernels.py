"""What is only faster: each function gives what its formula says, and the slow way beside it is what the
tests compare.

None of this is part of what a model is; `Kernels` of spec.py chooses between the ways.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from nomoat.model.spec import Kernels

CLOSED = -1e30  # the score of what may not be attended to; finite, so that an all-closed row stays a number
ROW_TILE = 64  # rows of a product are rounded to a multiple where its kernel is made for their number
HALVED = 128  # plain attention cuts rows of so many positions or more in halves

Pair = tuple[Tensor, Tensor]
Extend = Callable[[Tensor, Tensor], Pair]  # what a layer asks of a cache: see `AbsorbedAttention` of mla.py

# --- products ---


def rows_of(n: int, like: Tensor) -> int:
    """How many rows a product of `n` is given.  On a processor bfloat16 is multiplied by kernels that are
    made for one shape, which takes 2 to 4 ms (LOG.md): there in tiles, of many rows in coarser steps."""
    if like.dtype != torch.bfloat16 or like.device.type != "cpu":
        return n
    tile = max(ROW_TILE, 1 << max(n.bit_length() - 3, 0))
    return -(-n // tile) * tile


def filled(x_MD: Tensor) -> Tensor:
    """The rows, and behind them as many of zeros as a product is given; where there are none, themselves."""
    n_more = rows_of(len(x_MD), x_MD) - len(x_MD)
    return F.pad(x_MD, (0, 0, 0, n_more)) if n_more else x_MD


# --- attention ---


class PlainAttention(torch.autograd.Function):
    """softmax(scale q k^T + bias) v with the weights kept, at T x S memory: on a processor up to a few
    hundred positions up to four times faster than the fused kernel (LOG.md).

        S = scale q k^T + bias,  P = softmax(S),  o = P v
        dv = P^T do,  dP = do v^T,  dS = P (dP - sum_s dP P),  dq = scale dS k,  dk = scale dS^T q

    The queries are the last T of the S keys; those of the heads that share a key are the rows of one product.
    `bias` is (B or 1, 1, T, S).  Long rows are cut in halves: every mask here is causal, so that the first
    never reads the second half of the keys.
    """

    @staticmethod
    def forward(ctx, q_BHTN, k_BUSN, v_BUSW, bias, scale: float) -> Tensor:
        B, H, T, _ = q_BHTN.shape
        U, S = k_BUSN.shape[1:3]
        groups = q_BHTN.unflatten(1, (U, H // U))
        cuts = (0, T // 2, T) if T >= HALVED else (0, T)
        saved, out = [], []
        for first, end in pairwise(cuts):
            n_keys = S - T + end
            q = (groups[..., first:end, :] * scale).reshape(B * U, -1, groups.shape[-1])
            k = k_BUSN.flatten(0, 1)[:, :n_keys].contiguous()
            v = v_BUSW.flatten(0, 1)[:, :n_keys].contiguous()
            scores = torch.bmm(q, k.mT).view(B, H, end - first, n_keys)
            p = scores.add_(bias[..., first:end, :n_keys]).softmax(-1).view(B * U, -1, n_keys)
            out.append(torch.bmm(p, v).view(B, H, end - first, -1))
            saved += [q, k, v, p]
        ctx.save_for_backward(*saved)
        ctx.scale, ctx.n_kv_heads = scale, U
        return _joined(out)

    @staticmethod
    def backward(ctx, grad_BHTW):
        saved, grad_q, grad_kv = ctx.saved_tensors, [], None
        B, H, T, W = grad_BHTW.shape
        U, end = ctx.n_kv_heads, T
        while saved:  # from the last queries, which read every key, to the first
            *saved, q, k, v, p = saved
            first = end - q.shape[1] * U // H
            grad_o = grad_BHTW[:, :, first:end].reshape(B * U, -1, W)
            grad_p = torch.bmm(grad_o, v.mT)
            grad_score = torch._softmax_backward_data(grad_p, p, -1, p.dtype)
            grad_q.insert(0, torch.bmm(grad_score, k).view(B, H, end - first, -1))
            part = torch.bmm(q.mT, grad_score), torch.bmm(grad_o.mT, p)  # transposed: no copies
            grad_kv = _added(grad_kv, part)
            end = first
        grad_k, grad_v = (g.mT.unflatten(0, (B, U)) for g in grad_kv)
        return _joined(grad_q).mul_(ctx.scale), grad_k, grad_v, None, None


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, 2) if len(parts) > 1 else parts[0]


def _added(sums: Pair | None, parts: Pair) -> Pair:
    """The sums with parts that have fewer columns added to their first ones, in place."""
    for whole, part in zip(sums or (), parts):
        whole[..., : part.shape[-1]] += part
    return sums or parts


def attend(
    q_BHTN: Tensor, k_BUSN: Tensor, v_BUSW: Tensor, mask: Tensor | None, scale: float, kernels: Kernels
) -> Tensor:
    """softmax(scale q k^T) v over whole rows; `mask` is what `mask_for` made.  H / U query heads share a key
    and value.
    """
    if kernels.attention == "plain":
        return PlainAttention.apply(q_BHTN, k_BUSN, v_BUSW, mask, scale)
    shared = q_BHTN.shape[1] > k_BUSN.shape[1]
    return F.scaled_dot_product_attention(
        q_BHTN, k_BUSN, v_BUSW, mask, is_causal=mask is None, scale=scale, enable_gqa=shared
    )


def mask_for(kernels: Kernels, mask: Tensor | None, T: int, like: Tensor) -> Tensor | None:
    """The mask of a whole forward pass in the form that `attend` reads: boolean or None (causal), or a bias.

    `mask` is (B or 1, 1, T, T), true where a query may attend; dtype and device are those of `like`.
    """
    if kernels.attention == "fused":
        return mask
    if mask is None:
        mask = torch.ones(1, 1, T, T, dtype=torch.bool, device=like.device).tril()
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill_(~mask, CLOSED)


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
        wide = x.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return wide.mul_(scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        x, weight, scale = ctx.saved_tensors
        D = x.shape[-1]
        gain = weight.float()
        product = grad.to(torch.float32, copy=True, memory_format=torch.contiguous_format).mul_(x)
        grad_weight = scale.view(1, -1) @ product.view(-1, D)
        back = (product @ gain).unsqueeze(-1)
        back.mul_(scale**3).div_(-D)
        grad_x = product.copy_(grad)  # in the place of the product
        grad_x.mul_(gain).mul_(scale).addcmul_(x.float(), back)
        return grad_x.to(x.dtype), grad_weight.view(D).to(weight.dtype), None


class _SwiGLU(torch.autograd.Function):
    """y = silu(g) u of (g, u) side by side, of which nothing else is kept.

    du = dy silu(g),  dg = dy u silu'(g)

    The copy of g pays on the CPU: silu of narrow strided halves leaves its vector path and takes eight times
    as long.
    """

    @staticmethod
    def forward(ctx, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate.contiguous()).mul_(up)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, -1)
        gate = gate.contiguous()
        grad_gate = torch.ops.aten.silu_backward(grad * up, gate)
        grad_up = F.silu(gate, inplace=True).mul_(grad)
        return torch.cat((grad_gate, grad_up), -1)


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of one matrix that holds both side by side."""
    return _SwiGLU.apply(gate_up)
