"""Multi-token prediction: V3 report, section 2.2, equations (21) to (25).

Departure: the published weights concatenate the embedding before the hidden state; (21) prints the other
order.
"""

import torch
from torch import Tensor, nn

from nomoat.model.linear import Linear
from nomoat.model.norm import RMSNorm
from nomoat.model.spec import Spec


class Depth(nn.Module):
    """One extra prediction depth: the hidden state of the depth before, joined with the embedding of a future
    token.
    """

    def __init__(self, spec: Spec, block: nn.Module):
        super().__init__()
        D, eps = spec.d_model, spec.norm_eps
        self.norm_embed, self.norm_hidden = RMSNorm(D, eps), RMSNorm(D, eps)
        self.w_join = Linear(2 * D, D)
        self.norm = RMSNorm(D, eps)  # before the shared head (23)
        self.block = block

    def forward(
        self, h_BTD: Tensor, embed_BTD: Tensor, cis_BTr: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        h_BTD, _ = self.block(self.join(h_BTD, embed_BTD), cis_BTr, mask)  # (22)
        return h_BTD

    def join(self, h_BTD: Tensor, embed_BTD: Tensor) -> Tensor:
        """What the block reads (21)."""
        return self.w_join(torch.cat((self.norm_embed(embed_BTD), self.norm_hidden(h_BTD)), -1))

    def final(self, h: Tensor) -> Tensor:
        """What the shared head reads at this depth (23)."""
        return self.norm(h)
