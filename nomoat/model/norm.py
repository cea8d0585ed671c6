"""RMSNorm (arXiv 1910.07467): x / sqrt(mean(x^2) + eps) * weight, in float32 whatever the model's precision.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nomoat.model import kernels


class RMSNorm(nn.Module):
    """Over the last axis, of width `d`."""

    def __init__(self, d: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        """A processor has no fused kernel: there the gradient is written out, with half the passes."""
        return self.few(x) if x.is_cuda else kernels.RMSNorm.apply(x, self.weight, self.eps)

    def few(self, x: Tensor) -> Tensor:
        """The same by torch's kernel, which is the faster one for the few rows of a decoding step."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
