"""Multi-head latent attention: V3 report, section 2.1.1, equations (1) to (11).

Departures from the page, not from the mathematics: W^DQ (or the full query where there is no query latent), W^DKV and
W^KR stand in one matrix, and so do W^UQ with W^QR and W^UK with W^UV, as in the published weights; both latents pass
an RMSNorm, which the report mentions in its section 4.2.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nomoat.model.cache import LatentCache
from nomoat.model.norm import rms_norm
from nomoat.model.rope import rotate
from nomoat.model.spec import ModelSpec

LATENT_EPS = 1e-6  # the published code's, whatever the other norms use
CLOSED = -1e30  # the score of a position that may not be attended to; finite, so that an all-closed row stays a number
HALVED = 128  # plain attention cuts rows of so many positions or more in halves


class PlainAttention(torch.autograd.Function):
    """softmax(q k^T scale + bias) v with the weights kept: two to three times faster than the fused kernel on a
    processor in bf16 at a few hundred positions (LOG.md), at T x S memory.

    Long rows are cut in halves: every mask here is causal, so that the first never reads the second half of the keys.
    """

    @staticmethod
    def forward(ctx, q_BHTN, k_BHSN, v_BHSW, bias, scale: float) -> Tensor:
        B, H, T, _ = q_BHTN.shape
        q, k, v = q_BHTN.flatten(0, 1), k_BHSN.flatten(0, 1), v_BHSW.flatten(0, 1)
        cuts = (0, T // 2, T) if T >= HALVED else (0, T)
        saved, out = [], []
        for a, b in pairwise(cuts):
            q_i, k_i, v_i = q[:, a:b].contiguous(), k[:, :b].contiguous(), v[:, :b].contiguous()
            bias_i = bias[..., a:b, :b].expand(B, H, -1, -1).flatten(0, 1)
            p = torch.baddbmm(bias_i, q_i, k_i.mT, alpha=scale).softmax(-1)
            out.append(torch.bmm(p, v_i))
            saved += [q_i, k_i, v_i, p]
        ctx.save_for_backward(*saved)
        ctx.scale = scale
        return (torch.cat(out, 1) if len(out) > 1 else out[0]).view(B, H, T, -1)

    @staticmethod
    def backward(ctx, grad_BHTW):
        saved, grad_q, grad_kv = ctx.saved_tensors, [], None
        grad = grad_BHTW.flatten(0, 1)
        while saved:  # from the last queries, which read every key, to the first
            *saved, q, k, v, p = saved
            grad, grad_i = grad.split((grad.shape[1] - len(q[0]), len(q[0])), 1)
            grad_i = grad_i.contiguous()
            grad_score = torch._softmax_backward_data(torch.bmm(grad_i, v.mT), p, -1, p.dtype)
            grad_q.insert(0, torch.bmm(grad_score, k))
            pair = torch.bmm(q.mT, grad_score), torch.bmm(grad_i.mT, p)  # transposed: the large factor stays as it lies
            grad_kv = grad_kv or pair
            if pair is not grad_kv:
                for whole, part in zip(grad_kv, pair):
                    whole[..., : part.shape[-1]] += part
        grad_q = torch.cat(grad_q, 1) if len(grad_q) > 1 else grad_q[0]
        grads = grad_q.mul_(ctx.scale), grad_kv[0].mul_(ctx.scale).mT, grad_kv[1].mT
        return *(g.unflatten(0, grad_BHTW.shape[:2]) for g in grads), None, None


def keys_read(spec: ModelSpec, T: int) -> float:
    """Keys that one query of a row of T is multiplied with, on average, as computed here."""
    if spec.attention == "fused":
        return T / 2
    half = T // 2 if T >= HALVED else 0
    return (half * half + (T - half) * T) / T


def mask_for(spec: ModelSpec, mask: Tensor | None, T: int, dtype: torch.dtype, device) -> Tensor | None:
    """The mask of a whole forward pass in the form that this spec's attention reads: boolean or None, or a bias."""
    if spec.attention == "fused":
        return mask
    if mask is None:
        mask = torch.ones(1, 1, T, T, dtype=torch.bool, device=device).tril()
    bias = torch.zeros(mask.shape, dtype=dtype, device=device).masked_fill_(~mask, CLOSED)
    return bias if len(bias) == 1 else bias.repeat(1, spec.n_heads, 1, 1)  # once, instead of once a layer


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
        self, h_BTD: Tensor, cis_BTr: Tensor, mask: Tensor | None, cache: LatentCache | None = None, layer: int = 0
    ) -> Tensor:
        """`mask` is what `mask_for` made; cis is (B or 1, T, R/2)."""
        s = self.spec
        B, T, _ = h_BTD.shape
        H, N, R, C = s.n_heads, s.d_nope, s.d_rope, s.d_kv_latent
        q_in, c_kv_BTC, k_rope_BTR = F.linear(h_BTD, self.w_in).split((self.d_query_in, C, R), -1)  # (1) (3) (6)
        c_kv_BTC = rms_norm(c_kv_BTC, self.norm_kv, LATENT_EPS)
        if s.d_q_latent:
            c_q_BTP = rms_norm(q_in, self.norm_q, LATENT_EPS)
            q_in = F.linear(c_q_BTP, self.w_uq)  # (7) (8)
        q_nope_BHTN, q_rope_BHTR = q_in.view(B, T, H, N + R).transpose(1, 2).split((N, R), -1)
        q_rope_BHTR = rotate(q_rope_BHTR, cis_BTr[:, None])  # (8)
        k_rope_BTR = rotate(k_rope_BTR, cis_BTr)  # (3)
        if cache is not None:
            latent_BSc = cache.write(layer, torch.cat((c_kv_BTC, k_rope_BTR), -1))
        if cache is None or cache.length == 0:
            o_BHTW = self._naive(q_nope_BHTN, q_rope_BHTR, c_kv_BTC, k_rope_BTR, mask)
        else:
            o_BHTW = self._absorbed(q_nope_BHTN, q_rope_BHTR, latent_BSc, mask)
        return F.linear(o_BHTW.transpose(1, 2).flatten(-2), self.w_o)  # (11)

    def _naive(self, q_nope_BHTN, q_rope_BHTR, c_kv_BTC, k_rope_BTR, mask) -> Tensor:
        """Keys and values made from the latent, one set for each head."""
        s = self.spec
        B, H, T, N = q_nope_BHTN.shape
        kv = F.linear(c_kv_BTC, self.w_ukv).view(B, T, H, N + s.d_value).transpose(1, 2)
        k_nope_BHTN, v_BHTW = kv.split((N, s.d_value), -1)  # (2) (5)
        q = torch.cat((q_nope_BHTN, q_rope_BHTR), -1)  # (9)
        k = torch.cat((k_nope_BHTN, k_rope_BTR[:, None].expand(-1, H, -1, -1)), -1)  # (4)
        if s.attention == "plain":
            return PlainAttention.apply(q, k, v_BHTW, mask, s.softmax_scale)  # (10)
        return F.scaled_dot_product_attention(q, k, v_BHTW, mask, is_causal=mask is None, scale=s.softmax_scale)  # (10)

    def _absorbed(self, q_nope_BHTN, q_rope_BHTR, latent_BSc, mask) -> Tensor:
        """W^UK folded into the query and W^UV into the output (DeepSeek-V2 report, section 2.1.2).

        All heads then read one shared key and value, the latent, so that heads are queries of a single-headed attention.
        """
        s = self.spec
        B, H, T, N = q_nope_BHTN.shape
        S, C = latent_BSc.shape[1], s.d_kv_latent
        w_uk_HNC, w_uv_HWC = self.w_ukv.view(H, N + s.d_value, C).split((N, s.d_value), 1)
        q_lat_BHTC = q_nope_BHTN @ w_uk_HNC
        q = torch.cat((q_lat_BHTC, q_rope_BHTR), -1).view(B, 1, H * T, C + s.d_rope)
        if mask is None:
            mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)[None, None]
        if T > 1:
            mask = mask.repeat(1, 1, H, 1)
        latent = latent_BSc[:, None]
        o_lat = F.scaled_dot_product_attention(q, latent, latent, mask, scale=s.softmax_scale)
        o_lat_BHTC = o_lat.view(B, H, T, C + s.d_rope)[..., :C]
        return o_lat_BHTC @ w_uv_HWC.mT
