"""Multi-head latent attention: V3 report, section 2.1.1, equations (1) to (11), in two forms that give the
same.

`LatentAttention` reads whole rows and makes keys and values from the latent, one set for each head (training,
prefill). `AbsorbedStep` continues many rows by one position each behind a cache of latents: W^UK goes into
the query and W^UV into the output (DeepSeek-V2 report, section 2.1.2), so that all heads read one shared key
and value.

Departures from the page, not from the mathematics: W^DQ (or the full query where there is no query latent),
W^DKV and W^KR stand in one matrix, and so do W^UQ with W^QR and W^UK with W^UV, as in the published weights;
both latents pass an RMSNorm, which the report mentions in its section 4.2.
"""

import torch
from torch import Tensor, nn

from nomoat.model.kernels import Pair, attend
from nomoat.model.linear import Linear
from nomoat.model.norm import RMSNorm
from nomoat.model.rope import rotate
from nomoat.model.spec import Kernels, Spec

LATENT_EPS = 1e-6  # the published code's, whatever the other norms use


class LatentAttention(nn.Module):
    """u_BTD from h_BTD over whole rows."""

    def __init__(self, spec: Spec, kernels: Kernels):
        super().__init__()
        a = spec.attention
        self.shape = a
        self.scale, self.kernels = spec.softmax_scale, kernels
        C, P = a.d_kv_latent, a.d_q_latent
        d_queries = a.n_heads * a.d_query
        self.widths = P or d_queries, C, a.d_rope
        self.w_in = Linear(spec.d_model, sum(self.widths))
        if P:
            self.norm_q = RMSNorm(P, LATENT_EPS)
            self.w_uq = Linear(P, d_queries)
        self.norm_kv = RMSNorm(C, LATENT_EPS)
        self.w_ukv = Linear(C, a.n_heads * (a.d_nope + a.d_value))
        self.w_o = Linear(a.n_heads * a.d_value, spec.d_model)

    def forward(
        self, h_BTD: Tensor, cis_BTr: Tensor, mask: Tensor | None, kept: list[Pair] | None = None
    ) -> Tensor:
        """`mask` is what `mask_for` made; cis is (B or 1, T, R/2); what a cache holds of these rows goes into
        `kept`.
        """
        a = self.shape
        q_in, c_kv_BTC, k_rope_BTR = self.w_in(h_BTD).split(self.widths, -1)  # (1) (3) (6)
        c_kv_BTC = self.norm_kv(c_kv_BTC)
        if a.d_q_latent:
            c_q_BTP = self.norm_q(q_in)
            q_in = self.w_uq(c_q_BTP)  # (7) (8)
        q_nope_BHTN, q_rope_BHTR = self._by_head(q_in, a.d_nope, a.d_rope)
        q_rope_BHTR = rotate(q_rope_BHTR, cis_BTr[:, None])  # (8)
        k_rope_BTR = rotate(k_rope_BTR, cis_BTr)  # (3)
        if kept is not None:
            kept.append((c_kv_BTC, k_rope_BTR))
        k_nope_BHTN, v_BHTW = self._by_head(self.w_ukv(c_kv_BTC), a.d_nope, a.d_value)  # (2) (5)
        k_rope_BHTR = k_rope_BTR[:, None].expand(-1, a.n_heads, -1, -1)
        q = torch.cat((q_nope_BHTN, q_rope_BHTR), -1)  # (9)
        k = torch.cat((k_nope_BHTN, k_rope_BHTR), -1)  # (4)
        o_BHTW = attend(q, k, v_BHTW, mask, self.scale, self.kernels)  # (10)
        return self.w_o(o_BHTW.transpose(1, 2).flatten(-2))  # (11)

    def _by_head(self, x: Tensor, first: int, second: int) -> Pair:
        """The two parts of every head: (B, T, H (first + second)) -> (B, H, T, first), (B, H, T, second)."""
        heads = x.unflatten(-1, (self.shape.n_heads, -1)).transpose(1, 2)
        return heads.split((first, second), -1)

    def step(self) -> "AbsorbedStep":
        return AbsorbedStep(self)


class AbsorbedStep:
    """Equations (1) to (11) for one more position of each row: `step(h_BD, cis, cache, bias, column)` gives
    u_BD.

    The cache of a layer is `keys` (B, 1, C + R, capacity), latent and rotated key under each other, and
    `values` (B, 1, capacity, C), the latent again, so that both products read memory in order.
    """

    def __init__(self, attention: LatentAttention):
        a = attention.shape
        self.attention, self.shape = attention, a
        w_ukv = attention.w_ukv.weight.view(a.n_heads, -1, a.d_kv_latent)
        w_uk_HNC, w_uv_HWC = w_ukv.split((a.d_nope, a.d_value), 1)
        self.w_uk_HNC, self.w_uv_HCW = w_uk_HNC.contiguous(), w_uv_HWC.transpose(1, 2).contiguous()

    def allocate(self, n_rows: int, capacity: int, like: Tensor) -> Pair:
        """An empty cache, of the dtype and on the device of `like`."""
        C, R = self.shape.d_cached
        return like.new_zeros(n_rows, 1, C + R, capacity), like.new_zeros(n_rows, 1, capacity, C)

    def fill(self, cache: Pair, kept: Pair, rows: slice, columns: slice) -> None:
        """Put what `forward` kept of whole rows into the cache."""
        keys, values = cache
        c_kv_BTC, k_rope_BTR = kept
        keys[rows, 0, :, columns] = torch.cat((c_kv_BTC, k_rope_BTR), -1).mT
        values[rows, 0, columns] = c_kv_BTC

    def __call__(self, h_BD: Tensor, cis: Tensor, cache: Pair, bias: Tensor, column: int) -> Tensor:
        """`cis` is (B, 1, R/2); `bias` (B, 1, S) closes columns; the new position is written at `column` < S.
        """
        m, a, S = self.attention, self.shape, bias.shape[-1]
        H, C = a.n_heads, a.d_kv_latent
        keys, values = cache[0][:, 0], cache[1][:, 0]
        q_in, c_kv_BC, k_rope_BR = m.w_in(h_BD).split(m.widths, -1)  # (1) (3) (6)
        c_kv_BC = m.norm_kv.few(c_kv_BC)
        if a.d_q_latent:
            q_in = m.w_uq(m.norm_q.few(q_in))  # (7) (8)
        heads = q_in.unflatten(-1, (H, -1))
        q_nope_BHN, q_rope_BHR = heads.split((a.d_nope, a.d_rope), -1)
        turned = rotate(torch.cat((q_rope_BHR, k_rope_BR[:, None]), 1), cis)  # (3) (8), key last
        keys[:, :C, column] = c_kv_BC
        keys[:, C:, column] = turned[:, H]
        values[:, column] = c_kv_BC
        q_lat_BHC = torch.bmm(q_nope_BHN.transpose(0, 1), self.w_uk_HNC).transpose(0, 1)
        q = torch.cat((q_lat_BHC, turned[:, :H]), -1)
        scores_BHS = torch.bmm(q, keys[..., :S])
        weights_BHS = torch.add(bias, scores_BHS, alpha=m.scale).softmax(-1)
        o_lat_BHC = torch.bmm(weights_BHS, values[:, :S])  # (10)
        o_HBW = torch.bmm(o_lat_BHC.transpose(0, 1), self.w_uv_HCW)
        return m.w_o(o_HBW.transpose(0, 1).flatten(1))  # (11)
