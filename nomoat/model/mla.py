"""Multi-head latent attention: V3 report, section 2.1.1, equations (1) to (11).

Departures from the page, not from the mathematics: W^DQ (or the full query where there is no query latent), W^DKV and
W^KR stand in one matrix, and so do W^UQ with W^QR and W^UK with W^UV, as in the published weights; both latents pass
an RMSNorm, which the report mentions in its section 4.2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nomoat.model.cache import LatentCache
from nomoat.model.rope import rotate
from nomoat.model.spec import ModelSpec

LATENT_EPS = 1e-6  # the published code's, whatever the other norms use
CLOSED = -1e30  # the score of a position that may not be attended to; finite, so that an all-closed row stays a number


class PlainAttention(torch.autograd.Function):
    """softmax(q k^T scale + bias) v with the score matrix kept: two to three times faster than the fused kernel on a
    processor in bf16 at a few hundred positions (LOG.md), at T x S memory."""

    @staticmethod
    def forward(ctx, q_BHTN, k_BHSN, v_BHSW, bias, scale: float) -> Tensor:
        score_BHTS = torch.matmul(q_BHTN * scale, k_BHSN.transpose(-1, -2))
        p_BHTS = score_BHTS.add_(bias).softmax(-1)
        ctx.save_for_backward(q_BHTN, k_BHSN, v_BHSW, p_BHTS)
        ctx.scale = scale
        return p_BHTS @ v_BHSW

    @staticmethod
    def backward(ctx, grad_BHTW):
        q_BHTN, k_BHSN, v_BHSW, p_BHTS = ctx.saved_tensors
        grad_v = p_BHTS.transpose(-1, -2) @ grad_BHTW
        grad_p = grad_BHTW @ v_BHSW.transpose(-1, -2)
        grad_score = torch._softmax_backward_data(grad_p, p_BHTS, -1, p_BHTS.dtype)
        grad_q = (grad_score @ k_BHSN).mul_(ctx.scale)
        grad_k = (grad_score.transpose(-1, -2) @ q_BHTN).mul_(ctx.scale)
        return grad_q, grad_k, grad_v, None, None


def mask_for(spec: ModelSpec, mask: Tensor | None, T: int, dtype: torch.dtype, device) -> Tensor | None:
    """The mask of a whole forward pass in the form that this spec's attention reads: boolean or None, or a bias."""
    if spec.attention == "fused":
        return mask
    if mask is None:
        mask = torch.ones(1, 1, T, T, dtype=torch.bool, device=device).tril()
    return torch.zeros(mask.shape, dtype=dtype, device=device).masked_fill_(~mask, CLOSED)


class LatentAttention(nn.Module):
    """u_BTD from h_BTD.  Naive without earlier positions (training, prefill), absorbed behind a cache (decoding)."""

    def __init__(self, spec: ModelSpec):
        super().__init__()
        self.spec = spec
        D, H, C, R = spec.d_model, spec.n_heads, spec.d_kv_latent, spec.d_rope
        self.d_query_in = spec.d_q_latent or H * spec.d_query
        self.w_in = nn.Parameter(torch.empty(self.d_query_in + C + R, D))
        if spec.d_q_latent:
            self.norm_q = nn.Parameter(torch.ones(spec.d_q_latent))
            self.w_uq = nn.Parameter(torch.empty(H * spec.d_query, spec.d_q_latent))
        self.norm_kv = nn.Parameter(torch.ones(C))
        self.w_ukv = nn.Parameter(torch.empty(H * (spec.d_nope + spec.d_value), C))
        self.w_o = nn.Parameter(torch.empty(D, H * spec.d_value))

    def forward(
        self,
        h_BTD: Tensor,
        cis_BTr: Tensor,
        mask: Tensor | None,
        cache: LatentCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """`mask` is what `mask_for` made; cis is (B or 1, T, R/2)."""
        s = self.spec
        B, T, _ = h_BTD.shape
        H, N, R, C = s.n_heads, s.d_nope, s.d_rope, s.d_kv_latent
        q_in, c_kv_BTC, k_rope_BTR = F.linear(h_BTD, self.w_in).split((self.d_query_in, C, R), -1)  # (1) (3) (6)
        c_kv_BTC = F.rms_norm(c_kv_BTC, (C,), self.norm_kv, LATENT_EPS)
        if s.d_q_latent:
            c_q_BTP = F.rms_norm(q_in, (s.d_q_latent,), self.norm_q, LATENT_EPS)
            q_in = F.linear(c_q_BTP, self.w_uq)  # (7) (8)
        q_nope_BTHN, q_rope_BTHR = q_in.view(B, T, H, N + R).split((N, R), -1)
        q_rope_BTHR = rotate(q_rope_BTHR, cis_BTr[:, :, None])  # (8)
        k_rope_BTR = rotate(k_rope_BTR, cis_BTr)  # (3)
        if cache is not None:
            latent_BSc = cache.write(layer, torch.cat((c_kv_BTC, k_rope_BTR), -1))
        if cache is None or cache.length == 0:
            o_BTHW = self._naive(q_nope_BTHN, q_rope_BTHR, c_kv_BTC, k_rope_BTR, mask)
        else:
            o_BTHW = self._absorbed(q_nope_BTHN, q_rope_BTHR, latent_BSc, mask)
        return F.linear(o_BTHW.flatten(-2), self.w_o)  # (11)

    def _naive(self, q_nope_BTHN, q_rope_BTHR, c_kv_BTC, k_rope_BTR, mask) -> Tensor:
        """Keys and values made from the latent, one set for each head."""
        s = self.spec
        B, T, H, N = q_nope_BTHN.shape
        kv = F.linear(c_kv_BTC, self.w_ukv).view(B, T, H, N + s.d_value)
        k_nope_BTHN, v_BTHW = kv.split((N, s.d_value), -1)  # (2) (5)
        q = torch.cat((q_nope_BTHN, q_rope_BTHR), -1)  # (9)
        k = torch.cat((k_nope_BTHN, k_rope_BTR[:, :, None].expand(-1, -1, H, -1)), -1)  # (4)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v_BTHW.transpose(1, 2)
        if s.attention == "plain":
            o_BHTW = PlainAttention.apply(q, k, v, mask, s.softmax_scale)  # (10)
        else:
            o_BHTW = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, scale=s.softmax_scale)  # (10)
        return o_BHTW.transpose(1, 2)

    def _absorbed(self, q_nope_BTHN, q_rope_BTHR, latent_BSc, mask) -> Tensor:
        """W^UK folded into the query and W^UV into the output (DeepSeek-V2 report, section 2.1.2).

        All heads then read one shared key and value, the latent, so that heads are queries of a single-headed attention.
        """
        s = self.spec
        B, T, H, N = q_nope_BTHN.shape
        S, C = latent_BSc.shape[1], s.d_kv_latent
        w_uk_HNC, w_uv_HWC = self.w_ukv.view(H, N + s.d_value, C).split((N, s.d_value), 1)
        q_lat_BTHC = torch.einsum("bthn,hnc->bthc", q_nope_BTHN, w_uk_HNC)
        q = torch.cat((q_lat_BTHC, q_rope_BTHR), -1).view(B, 1, T * H, C + s.d_rope)
        if mask is None:
            mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)[None, None]
        if T > 1:
            mask = mask.repeat_interleave(H, 2)
        latent = latent_BSc[:, None]
        o_lat = F.scaled_dot_product_attention(q, latent, latent, mask, scale=s.softmax_scale)
        o_lat_BTHC = o_lat.view(B, T, H, C + s.d_rope)[..., :C]
        return torch.einsum("bthc,hwc->bthw", o_lat_BTHC, w_uv_HWC)
