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
        wide = x.to(torch.float32, copy=True)
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return wide.mul_(scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        x, weight, scale = ctx.saved_tensors
        D, gain = x.shape[-1], weight.float()
        along = grad.to(torch.float32, copy=True).mul_(x)
        grad_weight = (scale.view(1, -1) @ along.view(-1, D)).view(D)
        back = (along @ gain).unsqueeze(-1).mul_(scale**3).div_(-D)
        grad_x = along.copy_(grad).mul_(gain).mul_(scale).addcmul_(x.float(), back)
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), None
