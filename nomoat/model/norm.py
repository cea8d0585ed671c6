"""RMSNorm (arXiv 1910.07467): x / sqrt(mean(x^2) + eps) * weight, in float32 whatever the model's precision."""

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Over the last axis.  A processor has no fused kernel: there the gradient is written out, with half the passes."""
    return F.rms_norm(x, weight.shape, weight, eps) if x.is_cuda else _RMSNorm.apply(x, weight, eps)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, eps: float) -> Tensor:
        wide = x.float()
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (wide * scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        x, weight, scale = ctx.saved_tensors
        unit = x * scale  # float32, as scale is
        along = grad * unit
        grad_weight = along.flatten(0, -2).sum(0)
        mean = (along @ weight.float()).unsqueeze(-1) / x.shape[-1]
        grad_x = unit.mul_(-mean).addcmul_(grad, weight.float()).mul_(scale)
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), None
