"""Multi-head latent attention: V3 report, section 2.1.1, equations (1) to (11), in two forms that give the
same.

`LatentAttention` reads whole rows and makes keys and values from the latent, one set for each head
(training). `AbsorbedAttention` continues rows behind a cache of latents: W^UK goes into the query and W^UV
into the output (DeepSeek-V2 report, section 2.1.2), so that all heads read one shared key and value.

Departures from the page, not from the mathematics: W^DQ (or the full query where there is no query latent),
W^DKV and W^KR stand in one matrix, and so do W^UQ with W^QR and W^UK with W^UV, as in the published weights;
both latents pass an RMSNorm, which the report mentions in its section 4.2.
"""

import torch
from torch import Tensor, nn

from nomoat.model.kernels import Extend, Pair
from nomoat.model.linear import Linear
from nomoat.model.norm import RMSNorm
from nomoat.model.rope import rotate
from nomoat.model.spans import Spans, attend
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

    def forward(self, h_BTD: Tensor, cis_BTr: Tensor, mask: Tensor | Spans | None) -> Tensor:
        """`mask` is what Transformer.mask made; cis is (B or 1, T, R/2)."""
        a = self.shape
        q_in, c_kv_BTC, k_rope_BTR = self.w_in(h_BTD).split(self.widths, -1)  # (1) (3) (6)
        c_kv_BTC = self.norm_kv(c_kv_BTC)
        if a.d_q_latent:
            c_q_BTP = self.norm_q(q_in)
            q_in = self.w_uq(c_q_BTP)  # (7) (8)
        q_nope_BHTN, q_rope_BHTR = self._by_head(q_in, a.d_nope, a.d_rope)
        cis = cis_BTr[:, None]
        q_rope_BHTR = rotate(q_rope_BHTR, cis)  # (8)
        k_rope_BTR = rotate(k_rope_BTR, cis_BTr)  # (3)
        kv = self.w_ukv(c_kv_BTC)
        k_nope_BHTN, v_BHTW = self._by_head(kv, a.d_nope, a.d_value)  # (2) (5)
        k_rope = k_rope_BTR[:, None]
        k_rope_BHTR = k_rope.expand(-1, a.n_heads, -1, -1)
        q = torch.cat((q_nope_BHTN, q_rope_BHTR), -1)  # (9)
        k = torch.cat((k_nope_BHTN, k_rope_BHTR), -1)  # (4)
        o_BHTW = attend(q, k, v_BHTW, mask, self.scale, self.kernels)  # (10)
        heads = o_BHTW.transpose(1, 2).flatten(-2)
        return self.w_o(heads)  # (11)

    def _by_head(self, x: Tensor, first: int, second: int) -> Pair:
        """The two parts of every head: (B, T, H (first + second)) -> (B, H, T, first), (B, H, T, second)."""
        heads = x.unflatten(-1, (self.shape.n_heads, -1)).transpose(1, 2)
        return heads.split((first, second), -1)

    def behind(self) -> "AbsorbedAttention":
        return AbsorbedAttention(self)


class AbsorbedAttention:
    """Equations (1) to (11) for the next T positions of each row.

    u_BTD = attention(h_BTD, cis_BTr, extend, bias):
    `extend(c_kv_BTC, k_rope_BTR)` adds them to a cache and gives what that then holds of these rows, (B, S,
    C) and (B, S, R); `bias` (B, T, 1, S) closes what a position may not read.
    """

    def __init__(self, attention: LatentAttention):
        a = attention.shape
        self.attention, self.shape = attention, a
        w_ukv = attention.w_ukv.weight.view(a.n_heads, -1, a.d_kv_latent)
        self.w_uk_HNC, self.w_uv_HWC = w_ukv.split((a.d_nope, a.d_value), 1)

    def __call__(self, h_BTD: Tensor, cis_BTr: Tensor, extend: Extend, bias: Tensor) -> Tensor:
        m, a = self.attention, self.shape
        q_in, c_kv_BTC, k_rope_BTR = m.w_in(h_BTD).split(m.widths, -1)  # (1) (3) (6)
        c_kv_BTC = m.norm_kv.few(c_kv_BTC)
        k_rope_BTR = rotate(k_rope_BTR, cis_BTr)  # (3)
        c_kv_BSC, k_rope_BSR = extend(c_kv_BTC, k_rope_BTR)
        if a.d_q_latent:
            c_q_BTP = m.norm_q.few(q_in)
            q_in = m.w_uq(c_q_BTP)  # (7) (8)
        heads = q_in.unflatten(-1, (a.n_heads, -1))
        q_nope_BTHN, q_rope_BTHR = heads.split((a.d_nope, a.d_rope), -1)
        q_rope_BTHR = rotate(q_rope_BTHR, cis_BTr[:, :, None])  # (8)
        q_lat_BTHC = torch.einsum("bthn,hnc->bthc", q_nope_BTHN, self.w_uk_HNC)
        q = torch.cat((q_lat_BTHC, q_rope_BTHR), -1)
        k = torch.cat((c_kv_BSC, k_rope_BSR), -1)
        scores = q.flatten(1, 2) @ k.mT
        scores_BTHS = scores.view(*q.shape[:3], -1)
        weights_BTHS = torch.add(bias, scores_BTHS, alpha=m.scale).softmax(-1)
        o_lat = weights_BTHS.flatten(1, 2) @ c_kv_BSC  # (10)
        o_lat_BTHC = o_lat.view_as(q_lat_BTHC)
        o_BTHW = torch.einsum("bthc,hwc->bthw", o_lat_BTHC, self.w_uv_HWC)
        return m.w_o(o_BTHW.flatten(2))  # (11)
