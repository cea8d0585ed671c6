"""The loss over the vocabulary, in chunks, with its gradient made in the forward pass.

Every objective here is a sum of c(t) * log p(target_t): cross entropy has c = -1/n, a policy gradient has
c = -A/n or a clipped ratio (rl/grpo.py).  So one function serves all: it asks for the coefficient, given log p.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1024  # rows whose logits exist at one time
IGNORED = -100

Coefficient = Callable[[Tensor, slice], Tensor]


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
            p = F.linear(h_MD[rows], head_VD).float().log_softmax(-1)
            logp = p.gather(1, target).squeeze(1)
            logp_M[rows] = logp
            if entropy_M is not None:
                entropy_M[rows] = -(p.exp() * p).sum(-1)
            c = coefficient(logp, rows)
            objective += (c * logp).sum()
            p = p.exp_().mul_(-c[:, None])  # d objective / d logits = c (onehot - p)
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
            logp_s = F.linear(h_MD[rows], head_VD).float().log_softmax(-1)
            logp_t = F.linear(teacher_M[rows], teacher_head).float().log_softmax(-1)
            p_s = logp_s.exp()
            gap = logp_s - logp_t
            if reverse:
                kl = (p_s * gap).sum(-1, keepdim=True)
                grad = p_s * (gap - kl)  # d KL(p_S || p_T) / d logits
                loss += kl.sum() / M
            else:
                p_t = logp_t.exp()
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
