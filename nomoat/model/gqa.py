"""Grouped-query attention (arXiv 2305.13245), what latent attention is compared with; `mixer = "gqa"`.

Each of the U key-value heads serves H / U query heads: U = H is multi-head attention, U = 1 multi-query attention.
Positions turn the whole head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nomoat.model.cache import LatentCache
from nomoat.model.mla import PlainAttention
from nomoat.model.rope import rotate
from nomoat.model.spec import ModelSpec


class GroupedAttention(nn.Module):
    """u_BTD from h_BTD; behind a cache, whose columns are every head's value, then every head's turned key."""

    def __init__(self, spec: ModelSpec):
        super().__init__()
        self.spec = spec
        H, U, R, W = spec.n_heads, spec.n_kv_heads, spec.d_rope, spec.d_value
        self.widths = H * R, U * R, U * W
        self.w_in = nn.Parameter(torch.empty(sum(self.widths), spec.d_model))
        self.w_o = nn.Parameter(torch.empty(spec.d_model, H * W))

    def forward(
        self, h_BTD: Tensor, cis_BTr: Tensor, mask: Tensor | None, cache: LatentCache | None = None, layer: int = 0
    ) -> Tensor:
        """arXiv 2305.13245, section 2.2.  `mask` is what `mask_for` made; cis is (B or 1, T, R/2)."""
        s, start = self.spec, 0
        q, k, v = F.linear(h_BTD, self.w_in).split(self.widths, -1)
        q_BHTR = rotate(q.unflatten(-1, (-1, s.d_rope)).transpose(1, 2), cis_BTr[:, None])
        k = rotate(k.unflatten(-1, (-1, s.d_rope)), cis_BTr[:, :, None]).flatten(2)
        if cache is not None:
            start = cache.length
            v, k = cache.write(layer, torch.cat((v, k), -1)).split(s.d_cached, -1)
        k_BUSR = k.unflatten(-1, (-1, s.d_rope)).transpose(1, 2)
        v_BUSW = v.unflatten(-1, (-1, s.d_value)).transpose(1, 2)
        if s.attention == "plain" and start == 0:
            k_BHSR, v_BHSW = (x.repeat_interleave(s.n_heads // s.n_kv_heads, 1) for x in (k_BUSR, v_BUSW))
            o_BHTW = PlainAttention.apply(q_BHTR, k_BHSR, v_BHSW, mask, s.softmax_scale)
        else:
            if start and mask is None:
                T, S = q_BHTR.shape[2], k_BUSR.shape[2]
                mask = torch.ones(T, S, dtype=torch.bool, device=h_BTD.device).tril(start)
            o_BHTW = F.scaled_dot_product_attention(
                q_BHTR, k_BUSR, v_BUSW, mask, is_causal=mask is None, scale=s.softmax_scale, enable_gqa=True
            )
        return F.linear(o_BHTW.transpose(1, 2).flatten(-2), self.w_o)

    def step(self, h_BD: Tensor, cis: Tensor, keys: Tensor, values: Tensor, bias: Tensor, column: int) -> Tensor:
        """One position of each row: `keys` is (B, U, R, capacity), `values` (B, U, capacity, W), `bias` (B, 1, S)."""
        s, S = self.spec, bias.shape[-1]
        q, k, v = F.linear(h_BD, self.w_in).split(self.widths, -1)
        turned = rotate(torch.cat((q, k), -1).unflatten(-1, (-1, s.d_rope)), cis)
        q_BHR, keys[..., column] = turned.split((s.n_heads, s.n_kv_heads), 1)
        values[:, :, column] = v.unflatten(-1, (-1, s.d_value))
        groups = q_BHR.reshape(-1, s.n_heads // s.n_kv_heads, s.d_rope)  # one batch for each row and key-value head
        scores = torch.bmm(groups, keys.flatten(0, 1)[..., :S])
        weights_BHS = torch.add(bias, scores.view(len(h_BD), -1, S), alpha=s.softmax_scale).softmax(-1)
        o = torch.bmm(weights_BHS.view_as(scores), values.flatten(0, 1)[:, :S])
        return F.linear(o.view(len(h_BD), -1), self.w_o)
