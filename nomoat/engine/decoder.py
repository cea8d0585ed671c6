"""Decoding with the latent cache: a prefill through the model, then one column a step for all rows.

The same equations as `model/`, laid out for one new position and many rows.  What that changes, and why (measured on
two cores at D = 256): keys are kept transposed and values apart, so that attention is two batched products without a
copy of the cache (2.7 times faster than scaled_dot_product_attention in bf16); the attended length is rounded up to a
multiple of COLUMNS, so that kernels are reused from step to step; the turns come from a table; experts multiply only
the rows that chose them.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from nomoat.model.cache import LatentCache
from nomoat.model.mla import LATENT_EPS, LatentAttention
from nomoat.model.moe import Experts, SwiGLU
from nomoat.model.rope import rotate, turns
from nomoat.model.transformer import Transformer

COLUMNS = 32
PREFILL_TOKENS = 8192  # prompts are prefilled in groups of about so many positions: bounds the memory
ROWS = 16  # groups of padded experts are a multiple of this: few distinct shapes
SPARE = {torch.bfloat16: 1_000_000}  # multiply-adds that padding may waste on each expert to save its own product


class Decoder:
    """A model and the rows that it is continuing.  Rows are aligned at their right end; all share the next column."""

    def __init__(self, model: Transformer):
        self.model, self.spec = model, model.spec
        self.dtype, self.device = model.embed.dtype, model.embed.device
        self.attention = [_Attention(b.attention) if self.spec.mixer == "mla" else b.attention.step for b in model.blocks]
        self.ffn = [_Routed(b.ffn) if isinstance(b.ffn, Experts) else partial(_dense, b.ffn) for b in model.blocks]

    def prefill(self, prompts: Sequence[Sequence[int]], n_new: int, pad_id: int) -> Tensor:
        """Logits behind each prompt, float32.  The cache then holds the prompts and has room for `n_new` columns."""
        s, n_rows = self.spec, len(prompts)
        self.length = max(map(len, prompts))
        capacity = -(-(self.length + n_new) // COLUMNS) * COLUMNS
        self.cis = turns(s, torch.arange(capacity, device=self.device))
        new = {"dtype": self.dtype, "device": self.device}
        U, (c, _) = s.n_kv_heads or 1, s.d_cached  # one head of latents, or the key-value heads of grouped queries
        self.keys = [torch.zeros(n_rows, U, s.d_kv_latent + s.d_rope, capacity, **new) for _ in range(s.n_layers)]
        self.values = [torch.zeros(n_rows, U, capacity, c // U, **new) for _ in range(s.n_layers)]
        self.pad_B = torch.tensor([self.length - len(prompt) for prompt in prompts], device=self.device)
        closed = torch.arange(capacity, device=self.device) < self.pad_B[:, None]
        closed[:, self.length :] = True
        self.bias = torch.zeros(n_rows, 1, capacity, **new).masked_fill_(closed[:, None], float("-inf"))
        rows_at_once = max(PREFILL_TOKENS // self.length, 1)
        groups = [slice(first, first + rows_at_once) for first in range(0, n_rows, rows_at_once)]
        return torch.cat([self._prefill(prompts[rows], rows, pad_id) for rows in groups])

    def _prefill(self, prompts: Sequence[Sequence[int]], rows: slice, pad_id: int) -> Tensor:
        """The same for the prompts of some rows, padded to the longest of them."""
        T = max(map(len, prompts))
        pad_B = torch.tensor([T - len(prompt) for prompt in prompts], device=self.device)
        ids_BT = torch.tensor([[pad_id] * (T - len(prompt)) + list(prompt) for prompt in prompts], device=self.device)
        column_T = torch.arange(T, device=self.device)
        mask = None
        if pad_B.any():
            real_BT = column_T >= pad_B[:, None]
            mask = (column_T[:, None] >= column_T) & real_BT[:, None]
            mask = (mask | torch.eye(T, dtype=torch.bool, device=self.device))[:, None]  # padding sees itself: no empty row
        cache = LatentCache(self.spec, len(prompts), T, dtype=self.dtype, device=self.device)
        pos_BT = (column_T - pad_B[:, None]).clamp(min=0)
        h_BTD, _ = self.model.hidden(ids_BT, pos_BT, mask, cache)
        for keys, values, latent in zip(self.keys, self.values, cache.latent):
            heads = lambda x: x.unflatten(-1, (keys.shape[1], -1)).transpose(1, 2)  # noqa: B023
            keys[rows, ..., self.length - T : self.length] = heads(latent[..., -keys[0, ..., 0].numel() :]).mT
            values[rows, :, self.length - T : self.length] = heads(latent[..., : self.spec.d_cached[0]])
        return self.model.logits(h_BTD[:, -1])

    def step(self, ids_B: Tensor) -> Tensor:
        """Logits behind one more token of every row, float32."""
        column = self.length
        S = -(-(column + 1) // COLUMNS) * COLUMNS
        self.bias[..., column] = 0
        bias, cis = self.bias[..., :S], self.cis.index_select(0, column - self.pad_B)[:, None]
        h_BD = F.embedding(ids_B, self.model.embed)
        D, eps = self.spec.d_model, self.spec.norm_eps
        for layer, block in enumerate(self.model.blocks):
            normed = F.rms_norm(h_BD, (D,), block.norm_attention, eps)
            h_BD = h_BD + self.attention[layer](normed, cis, self.keys[layer], self.values[layer], bias, column)
            normed = F.rms_norm(h_BD, (D,), block.norm_ffn, eps)
            h_BD = h_BD + self.ffn[layer](normed)
        self.length += 1
        return self.model.logits(h_BD)

    def rows(self, index_B: Tensor) -> None:
        """Keep, repeat or reorder rows: how a group shares its prompt and how finished rows leave."""
        self.keys = [keys.index_select(0, index_B) for keys in self.keys]
        self.values = [values.index_select(0, index_B) for values in self.values]
        self.bias, self.pad_B = self.bias.index_select(0, index_B), self.pad_B.index_select(0, index_B)


class _Attention:
    """Equations (1) to (11) for one position a row, with W^UK and W^UV absorbed as in `LatentAttention`."""

    def __init__(self, module: LatentAttention):
        s = module.spec
        self.module = module
        w_uk_HNC, w_uv_HWC = module.w_ukv.view(s.n_heads, -1, s.d_kv_latent).split((s.d_nope, s.d_value), 1)
        self.w_uk_HNC, self.w_uv_HCW = w_uk_HNC.contiguous(), w_uv_HWC.transpose(1, 2).contiguous()

    def __call__(self, h_BD: Tensor, cis: Tensor, keys: Tensor, values: Tensor, bias: Tensor, column: int) -> Tensor:
        m, s, B = self.module, self.module.spec, len(h_BD)
        H, N, R, C, S = s.n_heads, s.d_nope, s.d_rope, s.d_kv_latent, bias.shape[-1]
        keys, values = keys[:, 0], values[:, 0]
        q_in, c_kv_BC, k_rope_BR = F.linear(h_BD, m.w_in).split((m.d_query_in, C, R), -1)  # (1) (3) (6)
        c_kv_BC = F.rms_norm(c_kv_BC, (C,), m.norm_kv, LATENT_EPS)
        if s.d_q_latent:
            q_in = F.linear(F.rms_norm(q_in, (s.d_q_latent,), m.norm_q, LATENT_EPS), m.w_uq)  # (7) (8)
        q_nope_BHN, q_rope_BHR = q_in.view(B, H, N + R).split((N, R), -1)
        turned = rotate(torch.cat((q_rope_BHR, k_rope_BR[:, None]), 1), cis)  # (3) (8), the key behind the queries
        keys[:, :C, column], keys[:, C:, column] = c_kv_BC, turned[:, H]
        values[:, column] = c_kv_BC
        q_lat_BHC = torch.bmm(q_nope_BHN.transpose(0, 1), self.w_uk_HNC).transpose(0, 1)
        scores_BHS = torch.bmm(torch.cat((q_lat_BHC, turned[:, :H]), -1), keys[..., :S])
        weights_BHS = torch.add(bias, scores_BHS, alpha=s.softmax_scale).softmax(-1)
        o_lat_BHC = torch.bmm(weights_BHS, values[:, :S])  # (10)
        o_BHW = torch.bmm(o_lat_BHC.transpose(0, 1), self.w_uv_HCW).transpose(0, 1)
        return F.linear(o_BHW.reshape(B, -1), m.w_o)  # (11)


def _swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up.  silu takes both halves: on the CPU strided halves cost more than twice the work."""
    gate, _ = F.silu(gate_up).chunk(2, -1)
    return gate * gate_up.chunk(2, -1)[1]


def _dense(module: SwiGLU, h_BD: Tensor) -> Tensor:
    """A `SwiGLU` layer."""
    return F.linear(_swiglu(F.linear(h_BD, module.w_gate_up)), module.w_down)


class _Routed:
    """An `Experts` layer for few rows: the copies of the rows are sorted by expert, then multiplied either expert by
    expert, or all experts at once after padding their groups to one size.

    A bf16 product costs about 13 us before it computes anything, so padding pays there while the spare rows are cheap.
    """

    def __init__(self, module: Experts):
        n, self.module = module.spec.n_shared, module
        self.w_gate_up, self.w_down = module.w_gate_up[n:].transpose(1, 2), module.w_down[n:]
        if n:
            self.shared_gate_up = module.w_gate_up[:n].unflatten(1, (2, -1)).transpose(0, 1).flatten(0, 2)
            self.shared_down = module.w_down[:n].flatten(0, 1).t().contiguous()

    def __call__(self, h_BD: Tensor) -> Tensor:
        s, routing = self.module.spec, self.module.route(h_BD)
        expert_Z, order_Z = routing.expert_MK.flatten().sort(stable=True)
        token_Z = order_Z // s.n_active
        gate_Z1 = routing.gate_MK.flatten().index_select(0, order_Z).to(h_BD.dtype)[:, None]
        load_E = torch.bincount(expert_Z, minlength=s.n_routed)
        out_BD = torch.zeros_like(h_BD)
        if s.n_shared:
            out_BD = F.linear(_swiglu(F.linear(h_BD, self.shared_gate_up)), self.shared_down)
        rows = -(-int(load_E.max()) // ROWS) * ROWS
        spare = (rows - len(token_Z) / s.n_routed) * s.d_model * s.d_expert
        if h_BD.is_cuda or spare < SPARE.get(h_BD.dtype, 0):  # a card waits longer for launches than for spare rows
            return self._padded(h_BD, out_BD, expert_Z, token_Z, gate_Z1, load_E, rows)
        return self._one_by_one(h_BD, out_BD, token_Z, gate_Z1, load_E.tolist())

    def _one_by_one(self, h_BD, out_BD, token_Z, gate_Z1, loads: list[int]) -> Tensor:
        x_ZD = h_BD.index_select(0, token_Z)
        gate_up = h_BD.new_empty(len(x_ZD), self.w_gate_up.shape[-1])
        for x, w, out in zip(x_ZD.split(loads), self.w_gate_up, gate_up.split(loads)):
            if len(x):
                torch.mm(x, w, out=out)
        hidden_ZF = _swiglu(gate_up).mul_(gate_Z1)
        for hidden, w, out in zip(hidden_ZF.split(loads), self.w_down, x_ZD.split(loads)):
            if len(hidden):
                torch.mm(hidden, w, out=out)
        return out_BD.index_add_(0, token_Z, x_ZD)  # (12)

    def _padded(self, h_BD, out_BD, expert_Z, token_Z, gate_Z1, load_E, rows: int) -> Tensor:
        E, device = len(load_E), h_BD.device
        skipped_E = torch.arange(0, E * rows, rows, device=device) - (load_E.cumsum(0) - load_E)
        slot_Z = torch.arange(len(token_Z), device=device) + skipped_E.index_select(0, expert_Z)
        token = token_Z.new_zeros(E * rows).index_copy_(0, slot_Z, token_Z)  # spare slots: row 0 with gate 0
        gate = gate_Z1.new_zeros(E * rows, 1).index_copy_(0, slot_Z, gate_Z1)
        hidden = _swiglu(torch.bmm(h_BD.index_select(0, token).view(E, rows, -1), self.w_gate_up))
        hidden.mul_(gate.view(E, rows, 1))
        return out_BD.index_add_(0, token, torch.bmm(hidden, self.w_down).flatten(0, 1))  # (12)
