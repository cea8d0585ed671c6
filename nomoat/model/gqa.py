"""Grouped-query attention (arXiv 2305.13245): each of the U key-value heads serves H / U query heads.

U = H is multi-head attention, U = 1 multi-query attention.  Positions turn the whole head, in the layers that
are rotated.  Queries and keys may pass an RMSNorm first.
"""

import torch
from torch import Tensor, nn

from nomoat.model.kernels import Extend
from nomoat.model.linear import Linear
from nomoat.model.norm import RMSNorm
from nomoat.model.rope import rotate
from nomoat.model.spans import Spans, attend
from nomoat.model.spec import Kernels, Spec


class GroupedAttention(nn.Module):
    """u_BTD from h_BTD over whole rows."""

    def __init__(self, spec: Spec, kernels: Kernels, layer: int = 0):
        super().__init__()
        a = spec.attention
        self.shape = a
        self.scale = spec.softmax_scale
        self.kernels = kernels
        self.rotated = layer not in spec.unrotated
        d_in = sum(a.widths)
        self.w_in = Linear(spec.d_model, d_in, bias=a.qkv_bias)
        self.norm_q = _norm(spec, a.widths[0])
        self.norm_k = _norm(spec, a.widths[1])
        d_out = a.n_heads * a.d_value
        self.w_o = Linear(d_out, spec.d_model, bias=a.out_bias)

    def forward(self, h_BTD: Tensor, cis_BTr: Tensor, mask: Tensor | Spans | None) -> Tensor:
        """arXiv 2305.13245, section 2.2.  `mask` and `cis` as in mla.py."""
        a = self.shape
        q, k, v = self.w_in(h_BTD).split(a.widths, -1)
        q_BHTR = self.by_head(q, self.norm_q).transpose(1, 2)
        k_BUTR = self.by_head(k, self.norm_k).transpose(1, 2)
        v_BTUW = v.unflatten(-1, (-1, a.d_value))
        v_BUTW = v_BTUW.transpose(1, 2)
        if self.rotated:
            cis = cis_BTr[:, None]
            q_BHTR = rotate(q_BHTR, cis)
            k_BUTR = rotate(k_BUTR, cis)
        o_BHTW = attend(q_BHTR, k_BUTR, v_BUTW, mask, self.scale, self.kernels)
        heads = o_BHTW.transpose(1, 2).flatten(-2)
        return self.w_o(heads)

    def by_head(self, x: Tensor, norm: RMSNorm | None, *, few: bool = False) -> Tensor:
        """Queries or keys (…, H R) head by head, (…, H, R), normed; `few`: for the rows of a step.
        """
        heads = x.unflatten(-1, (-1, self.shape.d_head))
        if norm is None:
            return heads
        normed = norm.few if few else norm
        return normed(heads) if self.shape.qk_norm == "head" else normed(x).view_as(heads)

    def behind(self) -> "GroupedBehind":
        return GroupedBehind(self)


def _norm(spec: Spec, width: int) -> RMSNorm | None:
    """What queries or keys pass before they are turned; `width` is that of all of their heads."""
    per_head = spec.attention.qk_norm == "head"
    d = spec.attention.d_head if per_head else width
    return RMSNorm(d, spec.norm_eps) if spec.attention.qk_norm else None


class GroupedBehind:
    """The same for the next T positions of each row; as `AbsorbedAttention` of mla.py.

    `extend` takes and gives values before keys, all heads side by side: (B, T, U W) and (B, T, U R).
    """

    def __init__(self, attention: GroupedAttention):
        self.attention, self.shape = attention, attention.shape

    def __call__(self, h_BTD: Tensor, cis_BTr: Tensor, extend: Extend, bias: Tensor) -> Tensor:
        m, a = self.attention, self.shape
        q, k, v = m.w_in(h_BTD).split(a.widths, -1)
        q_BTHR = m.by_head(q, m.norm_q, few=True)
        k_BTUR = m.by_head(k, m.norm_k, few=True)
        if m.rotated:
            cis = cis_BTr[:, :, None]
            q_BTHR = rotate(q_BTHR, cis)
            k_BTUR = rotate(k_BTUR, cis)
        values, keys = extend(v, k_BTUR.flatten(2))
        v_BSUW = values.unflatten(-1, (-1, a.d_value))
        k_BSUR = keys.unflatten(-1, (-1, a.d_head))
        groups = q_BTHR.unflatten(2, (a.n_kv_heads, -1))
        scores = torch.einsum("btugr,bsur->btugs", groups, k_BSUR)
        scores_BTHS = scores.flatten(2, 3)
        weights_BTHS = torch.add(bias, scores_BTHS, alpha=m.scale).softmax(-1)
        weights = weights_BTHS.view_as(scores)
        o = torch.einsum("btugs,bsuw->btugw", weights, v_BSUW)
        return m.w_o(o.flatten(2))
