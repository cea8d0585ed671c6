"""Decoding with a cache: a prefill through the model, then one column a step for all rows.

The same equations as `model/`, laid out for one new position and many rows.  What that changes, and why (measured on
two cores at D = 256): keys are kept transposed and values apart, so that attention is two batched products without a
copy of the cache (2.7 times faster than scaled_dot_product_attention in bf16); the attended length is rounded up to a
multiple of COLUMNS, so that kernels are reused from step to step; the turns come from a table; experts multiply only
the rows that chose them.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from nomoat.model.moe import Experts, Routing, SwiGLU
from nomoat.model.rope import turns
from nomoat.model.transformer import Transformer

COLUMNS = 32
PREFILL_TOKENS = 8192  # prompts are prefilled in groups of about so many positions: bounds the memory
ROWS = 16  # groups of padded experts are a multiple of this: few distinct shapes
SPARE = {torch.bfloat16: 1_000_000}  # multiply-adds that padding may waste on each expert to save its own product


class Decoder:
    """A model and the rows that it is continuing.  Rows are aligned at their right end; all share the next column."""

    def __init__(self, model: Transformer):
        self.model, self.spec = model, model.spec
        self.device = model.device
        self.attention = [block.attention.step() for block in model.blocks]
        self.ffn = [_ffn(block.ffn) for block in model.blocks]

    def prefill(self, prompts: Sequence[Sequence[int]], n_new: int, pad_id: int) -> Tensor:
        """Logits behind each prompt, float32.  The cache then holds the prompts and has room for `n_new` columns."""
        n_rows, like = len(prompts), self.model.embed.weight
        self.length = max(map(len, prompts))
        capacity = -(-(self.length + n_new) // COLUMNS) * COLUMNS
        self.cis = turns(self.spec, torch.arange(capacity, device=self.device))
        self.caches = [attention.allocate(n_rows, capacity, like) for attention in self.attention]
        self.pad_B = torch.tensor([self.length - len(prompt) for prompt in prompts], device=self.device)
        closed = torch.arange(capacity, device=self.device) < self.pad_B[:, None]
        closed[:, self.length :] = True
        self.bias = like.new_zeros(n_rows, 1, capacity).masked_fill_(closed[:, None], float("-inf"))
        rows_at_once = max(PREFILL_TOKENS // self.length, 1)
        groups = [slice(first, min(first + rows_at_once, n_rows)) for first in range(0, n_rows, rows_at_once)]
        return torch.cat([self._prefill(prompts[rows], rows, pad_id) for rows in groups])

    def _prefill(self, prompts: Sequence[Sequence[int]], rows: slice, pad_id: int) -> Tensor:
        """The same for the prompts of some rows, padded to the longest of them."""
        T = max(map(len, prompts))
        pad_B = torch.tensor([T - len(prompt) for prompt in prompts], device=self.device)
        padded = [[pad_id] * (T - len(prompt)) + list(prompt) for prompt in prompts]
        ids_BT = torch.tensor(padded, device=self.device)
        column_T = torch.arange(T, device=self.device)
        mask = None
        if pad_B.any():
            real_BT = column_T >= pad_B[:, None]
            mask = (column_T[:, None] >= column_T) & real_BT[:, None]
            mask = (mask | torch.eye(T, dtype=torch.bool, device=self.device))[:, None]  # padding sees itself: no empty row
        pos_BT = (column_T - pad_B[:, None]).clamp(min=0)
        kept: list[tuple[Tensor, Tensor]] = []
        h_BTD, _ = self.model.hidden(ids_BT, pos_BT, mask, kept)
        columns = slice(self.length - T, self.length)
        for attention, cache, layer in zip(self.attention, self.caches, kept):
            attention.fill(cache, layer, rows, columns)
        return self.model.logits(h_BTD[:, -1])

    def step(self, ids_B: Tensor) -> Tensor:
        """Logits behind one more token of every row, float32."""
        column = self.length
        S = -(-(column + 1) // COLUMNS) * COLUMNS
        self.bias[..., column] = 0
        bias, cis = self.bias[..., :S], self.cis.index_select(0, column - self.pad_B)[:, None]
        h_BD = self.model.embed(ids_B)
        for layer, block in enumerate(self.model.blocks):
            normed = block.norm_attention.few(h_BD)
            h_BD = h_BD + self.attention[layer](normed, cis, self.caches[layer], bias, column)
            h_BD = h_BD + self.ffn[layer](block.norm_ffn.few(h_BD))
        self.length += 1
        return self.model.logits(h_BD)

    def rows(self, index_B: Tensor) -> None:
        """Keep, repeat or reorder rows: how a group shares its prompt and how finished rows leave."""
        for layer, (keys, values) in enumerate(self.caches):
            self.caches[layer] = keys.index_select(0, index_B), values.index_select(0, index_B)
        self.bias, self.pad_B = self.bias.index_select(0, index_B), self.pad_B.index_select(0, index_B)


def _ffn(module: Experts | SwiGLU) -> Callable[[Tensor], Tensor]:
    return FewRows(module) if isinstance(module, Experts) else partial(_dense, module)


def _dense(module: SwiGLU, h_BD: Tensor) -> Tensor:
    """A `SwiGLU` layer."""
    return module.w_down(_swiglu(module.w_gate_up(h_BD)))


def _swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up.  silu takes both halves: on the CPU strided halves cost more than twice the work."""
    gate, _ = F.silu(gate_up).chunk(2, -1)
    return gate * gate_up.chunk(2, -1)[1]


class FewRows:
    """An `Experts` layer for few rows: the copies of the rows are sorted by expert, then multiplied either expert by
    expert, or all experts at once after padding their groups to one size.

    A bf16 product costs about 13 us before it computes anything, so padding pays there while the spare rows are cheap.
    """

    def __init__(self, module: Experts):
        self.module, self.shape = module, module.shape
        self.w_gate_up, self.w_down = module.w_gate_up.matrices(), module.w_down.matrices()

    def __call__(self, h_BD: Tensor) -> Tensor:
        s, routing = self.shape, self.module.route(h_BD)
        copies = Copies(routing, s.n_routed, h_BD.dtype)
        shared = self.module.shared
        out_BD = torch.zeros_like(h_BD) if shared is None else _dense(shared, h_BD)
        rows = -(-int(copies.load_E.max()) // ROWS) * ROWS
        spare = (rows - len(copies.token_Z) / s.n_routed) * h_BD.shape[1] * s.d_expert
        if h_BD.is_cuda or spare < SPARE.get(h_BD.dtype, 0):  # a card waits longer for launches than for spare rows
            return self._padded(h_BD, out_BD, copies, rows)
        return self._one_by_one(h_BD, out_BD, copies)

    def _one_by_one(self, h_BD: Tensor, out_BD: Tensor, copies: "Copies") -> Tensor:
        loads = copies.load_E.tolist()
        x_ZD = h_BD.index_select(0, copies.token_Z)
        gate_up = h_BD.new_empty(len(x_ZD), self.w_gate_up.shape[-1])
        for x, w, out in zip(x_ZD.split(loads), self.w_gate_up, gate_up.split(loads)):
            if len(x):
                torch.mm(x, w, out=out)
        hidden_ZF = _swiglu(gate_up).mul_(copies.gate_Z[:, None])
        for hidden, w, out in zip(hidden_ZF.split(loads), self.w_down, x_ZD.split(loads)):
            if len(hidden):
                torch.mm(hidden, w, out=out)
        return out_BD.index_add_(0, copies.token_Z, x_ZD)  # (12)

    def _padded(self, h_BD: Tensor, out_BD: Tensor, copies: "Copies", rows: int) -> Tensor:
        load_E, token_Z, gate_Z = copies.load_E, copies.token_Z, copies.gate_Z
        E, device = len(load_E), h_BD.device
        skipped_E = torch.arange(0, E * rows, rows, device=device) - (load_E.cumsum(0) - load_E)
        slot_Z = torch.arange(len(token_Z), device=device) + skipped_E.index_select(0, copies.expert_Z)
        token = token_Z.new_zeros(E * rows).index_copy_(0, slot_Z, token_Z)  # spare slots: row 0 with gate 0
        gate = gate_Z.new_zeros(E * rows).index_copy_(0, slot_Z, gate_Z)
        hidden = _swiglu(torch.bmm(h_BD.index_select(0, token).view(E, rows, -1), self.w_gate_up))
        hidden.mul_(gate.view(E, rows, 1))
        return out_BD.index_add_(0, token, torch.bmm(hidden, self.w_down).flatten(0, 1))  # (12)


class Copies:
    """The copies of the rows, sorted by expert: whose they are, whom they go to, their gates, and how many each gets."""

    def __init__(self, routing: Routing, n_routed: int, dtype: torch.dtype):
        self.expert_Z, order_Z = routing.expert_MK.flatten().sort(stable=True)
        self.token_Z = order_Z // routing.expert_MK.shape[1]
        self.gate_Z = routing.gate_MK.flatten().index_select(0, order_Z).to(dtype)
        self.load_E = torch.bincount(self.expert_Z, minlength=n_routed)
