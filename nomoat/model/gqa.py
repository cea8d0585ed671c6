"""Grouped-query attention (arXiv 2305.13245): each of the U key-value heads serves H / U query heads.

U = H is multi-head attention, U = 1 multi-query attention.  Positions turn the whole head.
"""

import torch
from torch import Tensor, nn

from nomoat.model.kernels import Pair, attend
from nomoat.model.linear import Linear
from nomoat.model.rope import rotate
from nomoat.model.spec import Kernels, Spec


class GroupedAttention(nn.Module):
    """u_BTD from h_BTD over whole rows."""

    def __init__(self, spec: Spec, kernels: Kernels):
        super().__init__()
        a = spec.attention
        self.shape, self.scale, self.kernels = a, spec.softmax_scale, kernels
        self.widths = a.n_heads * a.d_head, a.n_kv_heads * a.d_head, a.n_kv_heads * a.d_value
        self.w_in = Linear(spec.d_model, sum(self.widths))
        self.w_o = Linear(a.n_heads * a.d_value, spec.d_model)

    def forward(
        self, h_BTD: Tensor, cis_BTr: Tensor, mask: Tensor | None, kept: list[Pair] | None = None
    ) -> Tensor:
        """arXiv 2305.13245, section 2.2.  `mask`, `cis` and `kept` as in mla.py."""
        a = self.shape
        q, k, v = self.w_in(h_BTD).split(self.widths, -1)
        q_BHTR = rotate(self._by_head(q, a.d_head), cis_BTr[:, None])
        k_BUTR = rotate(self._by_head(k, a.d_head), cis_BTr[:, None])
        v_BUTW = self._by_head(v, a.d_value)
        if kept is not None:
            kept.append((v_BUTW, k_BUTR))
        o_BHTW = attend(q_BHTR, k_BUTR, v_BUTW, mask, self.scale, self.kernels)
        heads = o_BHTW.transpose(1, 2).flatten(-2)
        return self.w_o(heads)

    @staticmethod
    def _by_head(x: Tensor, width: int) -> Tensor:
        return x.unflatten(-1, (-1, width)).transpose(1, 2)

    def step(self) -> "GroupedStep":
        return GroupedStep(self)


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
        q, k, v = m.w_in(h_BD).split(m.widths, -1)
        heads = torch.cat((q, k), -1).unflatten(-1, (-1, a.d_head))
        q_BHR, k_BUR = rotate(heads, cis).split((a.n_heads, a.n_kv_heads), 1)
        keys[..., column] = k_BUR
        values[:, :, column] = v.unflatten(-1, (-1, a.d_value))
        per_group = a.n_heads // a.n_kv_heads
        groups = q_BHR.reshape(-1, per_group, a.d_head)  # a batch for each row and key-value head
        scores = torch.bmm(groups, keys.flatten(0, 1)[..., :S])
        scores_BHS = scores.view(len(h_BD), -1, S)
        weights_BHS = torch.add(bias, scores_BHS, alpha=m.scale).softmax(-1)
        o = torch.bmm(weights_BHS.view_as(scores), values.flatten(0, 1)[:, :S])
        return m.w_o(o.view(len(h_BD), -1))
