"""The loss over the vocabulary, in chunks, with its gradient made in the forward pass.

Every objective here is a sum of c(t) * log p(target_t): cross entropy has c = -1/n, a policy gradient has
c = -A/n or a clipped ratio (rl/grpo.py).  So one function serves all: it asks for the coefficient, given log p.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 512  # rows whose logits exist at one time
IGNORED = -100
LOG2_E = math.log2(math.e)

Coefficient = Callable[[Tensor, slice], Tensor]


def _powers(h_MD: Tensor, head_VD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax before its division: (logits in bits below the best of their row, 2 to their power, the sums of these).

    On the CPU exp2 is four times faster than exp.
    """
    bits = F.linear(h_MD, head_VD).float().mul_(LOG2_E)
    bits.sub_(bits.amax(-1, keepdim=True))
    powers = bits.exp2()
    return bits, powers, powers.sum(-1, keepdim=True)


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h_MD, head_VD, targets_M, coefficient: Coefficient, want_entropy: bool):
        logp_M = torch.empty(len(targets_M), dtype=torch.float32, device=h_MD.device)
        entropy_M = torch.empty_like(logp_M) if want_entropy else None
        grad_h_MD = torch.empty_like(h_MD)
        grad_head_VD = torch.zeros_like(head_VD, dtype=torch.float32)
        objective = h_MD.new_zeros((), dtype=torch.float32)
        for start in range(0, len(targets_M), CHUNK):
            rows = slice(start, start + CHUNK)
            target = targets_M[rows, None]
            bits, p, total = _powers(h_MD[rows], head_VD)
            logp = (bits.gather(1, target) / LOG2_E - total.log()).squeeze(1)
            logp_M[rows] = logp
            if entropy_M is not None:
                entropy_M[rows] = (total.log() - bits.mul_(p).sum(-1, keepdim=True) / (total * LOG2_E)).squeeze(1)
            c = coefficient(logp, rows)
            objective += (c * logp).sum()
            p.mul_(-c[:, None] / total)  # d objective / d logits = c (onehot - p)
            p.scatter_add_(1, target, c[:, None])
            p = p.to(h_MD.dtype)
            torch.mm(p, head_VD, out=grad_h_MD[rows])
            grad_head_VD += (p.T @ h_MD[rows]).float()
        ctx.save_for_backward(grad_h_MD, grad_head_VD.to(head_VD.dtype))
        ctx.mark_non_differentiable(*(t for t in (logp_M, entropy_M) if t is not None))
        return objective, logp_M, entropy_M

    @staticmethod
    def backward(ctx, grad, *_):
        grad_h_MD, grad_head_VD = ctx.saved_tensors
        return grad_h_MD * grad, grad_head_VD * grad, None, None, None


def log_prob_objective(
    h_MD: Tensor, head_VD: Tensor, targets_M: Tensor, coefficient: Coefficient, *, entropy: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(sum of c log p, log p of each target, entropy or None).

    `coefficient(logp, rows)` gives dL/dlogp for a slice of the targets; it is taken as constant, which is exact for
    every policy-gradient and cross-entropy loss.  Logits are float32 (ScaleRL, arXiv 2510.13786).
    """
    return _LogProb.apply(h_MD, head_VD, targets_M, coefficient, entropy)


def cross_entropy(h_MD: Tensor, head_VD: Tensor, targets_M: Tensor, weight: float | None = None) -> tuple[Tensor, Tensor]:
    """(mean negative log-likelihood in nats, log p of the counted targets); `h_MD` has passed the final norm.

    Rows whose target is -100 are left out before the head is multiplied.  `weight` replaces 1/count.
    """
    keep = (targets_M != IGNORED).nonzero().squeeze(1)
    scale = weight if weight is not None else 1.0 / max(len(keep), 1)
    full = torch.tensor(-scale, device=h_MD.device)
    loss, logp_M, _ = log_prob_objective(
        h_MD.index_select(0, keep), head_VD, targets_M[keep], lambda logp, rows: full.expand(len(logp))
    )
    return loss, logp_M


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h_MD, head_VD, teacher_M, teacher_head, reverse: bool):
        M = len(h_MD)
        grad_h_MD = torch.empty_like(h_MD)
        grad_head_VD = torch.zeros_like(head_VD, dtype=torch.float32)
        loss = h_MD.new_zeros((), dtype=torch.float32)
        for start in range(0, M, CHUNK):
            rows = slice(start, start + CHUNK)
            bits_s, p_s, total_s = _powers(h_MD[rows], head_VD)
            bits_t, p_t, total_t = _powers(teacher_M[rows], teacher_head)
            gap = bits_s.sub_(bits_t).div_(LOG2_E).sub_((total_s / total_t).log_())  # log p_S - log p_T
            p_s.div_(total_s)
            if reverse:
                kl = (p_s * gap).sum(-1, keepdim=True)
                grad = p_s * (gap - kl)  # d KL(p_S || p_T) / d logits
                loss += kl.sum() / M
            else:
                p_t.div_(total_t)
                grad = p_s - p_t  # d KL(p_T || p_S) / d logits
                loss -= (p_t * gap).sum() / M
            grad = (grad / M).to(h_MD.dtype)
            torch.mm(grad, head_VD, out=grad_h_MD[rows])
            grad_head_VD += (grad.T @ h_MD[rows]).float()
        ctx.save_for_backward(grad_h_MD, grad_head_VD.to(head_VD.dtype))
        return loss

    @staticmethod
    def backward(ctx, grad):
        grad_h_MD, grad_head_VD = ctx.saved_tensors
        return grad_h_MD * grad, grad_head_VD * grad, None, None, None


def divergence(h_MD: Tensor, head_VD: Tensor, teacher_M: Tensor, teacher_head: Tensor, *, reverse: bool) -> Tensor:
    """Mean over tokens of KL(p_T || p_S), or with `reverse` of KL(p_S || p_T), in nats, over the whole vocabulary.

    The hidden states have passed their models' final norms; only the student's side gets a gradient.
    """
    return _Divergence.apply(h_MD, head_VD, teacher_M, teacher_head, reverse)
