"""The loss over the vocabulary, in chunks, with its gradient made in the forward pass.

Every objective here is a sum of c(t) * log p(target_t): cross entropy has c = -1/n, a policy gradient has
c = -A/n or a clipped ratio (rl/grpo.py).  So one function serves all: it asks for the coefficient, given log
p.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nomoat.model.kernels import ROW_TILE, filled

IGNORED = -100  # the target that is left out, as in torch's cross entropy
CHUNK, CARD_CHUNK = 512, 4096  # rows whose logits exist at one time, at most, on a processor and on a card
CHUNK_LOGITS = 2**24  # logits that exist at one time on a processor: of a large vocabulary fewer rows
LOG2_E = math.log2(math.e)

Coefficient = Callable[[Tensor, slice], Tensor]


def _powers(h_MD: Tensor, head_VD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax before its division: (logits in bits below the best of their row, 2 to their power, the sums of
    these).

    On the CPU exp2 is four times faster than exp.
    """
    bits = F.linear(filled(h_MD), head_VD)[: len(h_MD)].float()
    torch.add(bits.amax(-1, keepdim=True).mul_(-LOG2_E), bits, alpha=LOG2_E, out=bits)
    powers = bits.exp2()
    return bits, powers, powers.sum(-1, keepdim=True)


class _Chunked(torch.autograd.Function):
    """A sum over the rows, `piece(rows, *_powers(...))` giving a chunk's value and its gradient by the
    logits.
    """

    @staticmethod
    def forward(ctx, h_MD, head_VD, piece: Callable[..., tuple[Tensor, Tensor]]):
        grad_h_MD = torch.empty_like(h_MD)
        learns = ctx.needs_input_grad[1]
        grad_head_VD = torch.zeros_like(head_VD, dtype=torch.float32) if learns else None
        total = h_MD.new_zeros((), dtype=torch.float32)
        chunk = chunk_rows(len(head_VD), on_card=h_MD.is_cuda)
        for start in range(0, len(h_MD), chunk):
            rows = slice(start, start + chunk)
            h = h_MD[rows]
            value, grad = piece(rows, *_powers(h, head_VD))
            total += value
            grad = filled(grad.to(h.dtype))
            grad_h_MD[rows] = torch.mm(grad, head_VD)[: len(h)]
            if learns:
                _add_product(grad_head_VD, grad.T, filled(h))
        grad_head = grad_head_VD.to(head_VD.dtype) if learns else None
        ctx.save_for_backward(grad_h_MD, grad_head)
        return total

    @staticmethod
    def backward(ctx, grad):
        grads = ctx.saved_tensors
        if grad.is_cuda or grad.item() != 1:  # a product with a large table takes a while on a processor
            grads = [None if g is None else g * grad for g in grads]
        return *grads, None


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """a @ b added to a float32 tensor."""
    if a.dtype == torch.float32:
        total.addmm_(a, b)
    else:
        total += (a @ b).float()


def chunk_rows(vocab_size: int, *, on_card: bool = False) -> int:
    """Rows whose logits exist at one time."""
    if on_card:
        return CARD_CHUNK
    rows = max(min(CHUNK, CHUNK_LOGITS // vocab_size), 1)
    return max(rows // ROW_TILE * ROW_TILE, min(rows, ROW_TILE))


def log_prob_objective(
    h_MD: Tensor, head_VD: Tensor, targets_M: Tensor, coefficient: Coefficient, *, entropy: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(sum of c log p, log p of each target, entropy or None).

    `coefficient(logp, rows)` gives dL/dlogp for a slice of the targets; it is taken as constant, which is
    exact for every policy-gradient and cross-entropy loss.  Logits are float32 (ScaleRL, arXiv 2510.13786).
    """
    logp_M = torch.empty(len(targets_M), dtype=torch.float32, device=h_MD.device)
    entropy_M = torch.empty_like(logp_M) if entropy else None

    def piece(rows: slice, bits: Tensor, p: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        target = targets_M[rows, None]
        log_total = total.log()
        logp = bits.gather(1, target) / LOG2_E - log_total
        logp = logp.squeeze(1)
        logp_M[rows] = logp
        if entropy_M is not None:
            mean_bits = bits.mul_(p).sum(-1, keepdim=True)
            mean_nats = mean_bits / (total * LOG2_E)
            entropy_M[rows] = (log_total - mean_nats).squeeze(1)
        c = coefficient(logp, rows)
        c1 = c[:, None]
        p.mul_(-c1 / total)  # d objective / d logits = c (onehot - p)
        p.scatter_add_(1, target, c1)
        return (c * logp).sum(), p

    return _Chunked.apply(h_MD, head_VD, piece), logp_M, entropy_M


def cross_entropy(h_MD: Tensor, head_VD: Tensor, targets_M: Tensor) -> tuple[Tensor, Tensor]:
    """(mean negative log-likelihood in nats, log p of the counted targets); `h_MD` has passed the final norm.

    Rows whose target is -100 are left out before the head is multiplied.
    """
    keep = (targets_M != IGNORED).nonzero().squeeze(1)
    full = torch.tensor(-1.0 / max(len(keep), 1), device=h_MD.device)
    loss, logp, _ = log_prob_objective(
        h_MD.index_select(0, keep), head_VD, targets_M[keep], lambda logp, rows: full.expand(len(logp))
    )
    return loss, logp


def divergence(
    h_MD: Tensor, head_VD: Tensor, teacher_h: Tensor, teacher_head: Tensor, *, reverse: bool
) -> Tensor:
    """Mean over tokens of KL(p_T || p_S), or with `reverse` of KL(p_S || p_T), in nats, over the whole
    vocabulary.

    The hidden states have passed their models' final norms; only the student's side gets a gradient.
    """
    M = len(h_MD)

    def piece(rows: slice, bits_s: Tensor, p_s: Tensor, total_s: Tensor) -> tuple[Tensor, Tensor]:
        bits_t, p_t, total_t = _powers(teacher_h[rows], teacher_head)
        log_totals = (total_s / total_t).log_()
        gap = bits_s.sub_(bits_t).div_(LOG2_E).sub_(log_totals)  # log p_S - log p_T
        p_s.div_(total_s)
        if reverse:
            kl = (p_s * gap).sum(-1, keepdim=True)
            grad = p_s * (gap - kl) / M  # d KL(p_S || p_T) / d logits
            return kl.sum() / M, grad
        p_t.div_(total_t)
        kl = -(p_t * gap).sum()
        grad = (p_s - p_t) / M  # d KL(p_T || p_S) / d logits
        return kl / M, grad

    return _Chunked.apply(h_MD, head_VD, piece)
