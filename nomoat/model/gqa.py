"""Grouped-query attention (arXiv 2305.13245): each of the U key-value heads serves H / U query heads.

U = H is multi-head attention, U = 1 multi-query attention.  Positions turn the whole head, in the layers that
are rotated.  Queries and keys may pass an RMSNorm first.
"""

import torch
from torch import Tensor, nn

from nomoat.model.kernels import Pair, attend
from nomoat.model.linear import Linear
from nomoat.model.norm import RMSNorm
from nomoat.model.rope import rotate
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

    def forward(
        self, h_BTD: Tensor, cis_BTr: Tensor, mask: Tensor | None, kept: list[Pair] | None = None
    ) -> Tensor:
        """arXiv 2305.13245, section 2.2.  `mask`, `cis` and `kept` as in mla.py."""
        a = self.shape
        q, k, v = self.w_in(h_BTD).split(a.widths, -1)
        q_BHTR = self.by_head(q, self.norm_q).transpose(1, 2)
        k_BUTR = self.by_head(k, self.norm_k).transpose(1, 2)
        v_BUTW = v.unflatten(-1, (-1, a.d_value)).transpose(1, 2)
        if self.rotated:
            q_BHTR = rotate(q_BHTR, cis_BTr[:, None])
            k_BUTR = rotate(k_BUTR, cis_BTr[:, None])
        if kept is not None:
            kept.append((v_BUTW, k_BUTR))
        o_BHTW = attend(q_BHTR, k_BUTR, v_BUTW, mask, self.scale, self.kernels)
        heads = o_BHTW.transpose(1, 2).flatten(-2)
        return self.w_o(heads)

    def by_head(self, x: Tensor, norm: RMSNorm | None, *, few: bool = False) -> Tensor:
        """Queries or keys (…, H R) head by head, (…, H, R), normed; `few`: for the rows of a decoding step.
        """
        heads = x.unflatten(-1, (-1, self.shape.d_head))
        if norm is None:
            return heads
        normed = norm.few if few else norm
        return normed(heads) if self.shape.qk_norm == "head" else normed(x).view_as(heads)

    def step(self) -> "GroupedStep":
        return GroupedStep(self)


def _norm(spec: Spec, width: int) -> RMSNorm | None:
    """What queries or keys pass before they are turned; `width` is that of all of their heads."""
    per_head = spec.attention.qk_norm == "head"
    d = spec.attention.d_head if per_head else width
    return RMSNorm(d, spec.norm_eps) if spec.attention.qk_norm else None


class GroupedStep:
    """The same for one more position of each row; `keys` (B, U, R, capacity) and `values` (B, U, capacity,
    W).
    """

    def __init__(self, attention: GroupedAttention):
        self.attention, self.shape = attention, attention.shape

    def allocate(self, n_rows: int, capacity: int, like: Tensor) -> Pair:
        """An empty cache, of the dtype and on the device of `like`."""
        a = self.shape
        keys = like.new_zeros(n_rows, a.n_kv_heads, a.d_head, capacity)
        return keys, like.new_zeros(n_rows, a.n_kv_heads, capacity, a.d_value)

    def fill(self, cache: Pair, kept: Pair, rows: slice, columns: slice) -> None:
        """Put what `forward` kept of whole rows into the cache."""
        keys, values = cache
        v_BUTW, k_BUTR = kept
        keys[rows, ..., columns] = k_BUTR.mT
        values[rows, :, columns] = v_BUTW

    def __call__(self, h_BD: Tensor, cis: Tensor, cache: Pair, bias: Tensor, column: int) -> Tensor:
        """As `AbsorbedStep` of mla.py."""
        m, a, S = self.attention, self.shape, bias.shape[-1]
        keys, values = cache
        q, k, v = m.w_in(h_BD).split(a.widths, -1)
        q_BHR, k_BUR = m.by_head(q, m.norm_q, few=True), m.by_head(k, m.norm_k, few=True)
        heads = torch.cat((q_BHR, k_BUR), 1)
        if m.rotated:
            heads = rotate(heads, cis)
        q_BHR, k_BUR = heads.split((a.n_heads, a.n_kv_heads), 1)
        keys[..., column] = k_BUR
        values[:, :, column] = v.unflatten(-1, (-1, a.d_value))
        per_group = a.n_heads // a.n_kv_heads
        groups = q_BHR.reshape(-1, per_group, a.d_head)  # a batch for each row and key-value head
        scores = torch.bmm(groups, keys.flatten(0, 1)[..., :S])
        scores_BHS = scores.view(len(h_BD), -1, S)
        weights_BHS = torch.add(bias, scores_BHS, alpha=m.scale).softmax(-1)
        o = torch.bmm(weights_BHS.view_as(scores), values.flatten(0, 1)[:, :S])
        return m.w_o(o.view(len(h_BD), -1))
