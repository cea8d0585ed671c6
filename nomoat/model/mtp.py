"""Multi-token prediction: V3 report, section 2.2, equations (21) to (25).

Departure: the published weights concatenate the embedding before the hidden state; (21) prints the other order.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nomoat.model.norm import rms_norm
from nomoat.model.spec import ModelSpec


class Depth(nn.Module):
    """One extra prediction depth: the hidden state of the depth before, joined with the embedding of a future token."""

    def __init__(self, spec: ModelSpec, block: nn.Module):
        super().__init__()
        self.spec = spec
        self.norm_embed = nn.Parameter(torch.ones(spec.d_model))
        self.norm_hidden = nn.Parameter(torch.ones(spec.d_model))
        self.w_join = nn.Parameter(torch.empty(spec.d_model, 2 * spec.d_model))
        self.block = block
        self.norm = nn.Parameter(torch.ones(spec.d_model))  # before the shared head (23)

    def forward(self, h_BTD: Tensor, embed_BTD: Tensor, cis_BTr: Tensor, mask: Tensor | None = None) -> Tensor:
        eps = self.spec.norm_eps
        joined = torch.cat((rms_norm(embed_BTD, self.norm_embed, eps), rms_norm(h_BTD, self.norm_hidden, eps)), -1)
        h_BTD, _ = self.block(F.linear(joined, self.w_join), cis_BTr, mask)  # (21) (22)
        return h_BTD

    def final(self, h: Tensor) -> Tensor:
        """What the shared head reads at this depth (23)."""
        return rms_norm(h, self.norm, self.spec.norm_eps)
