"""Decoding with a cache: a prefill through the model, then one column a step for all rows.

The same equations as `model/`, laid out for one new position and many rows.  What that changes, and why
(measured on two cores at D = 256): keys are kept transposed and values apart, so that attention is two
batched products without a copy of the cache (2.7 times faster than scaled_dot_product_attention in bf16); the
attended length is rounded up to a multiple of COLUMNS, so that kernels are reused from step to step; the
turns come from a table; experts multiply only the rows that chose them.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from nomoat.model.kernels import Pair
from nomoat.model.moe import Experts, Routing, SwiGLU
from nomoat.model.rope import turns
from nomoat.model.transformer import Transformer

COLUMNS = 32
PREFILL_TOKENS = 8192  # prompts are prefilled in groups of about so many positions: bounds the memory
ROWS = 16  # groups of padded experts are a multiple of this: few distinct shapes
# Multiply-adds that padding may waste on each expert to save its own product.
SPARE = {torch.bfloat16: 1_000_000}


class Decoder:
    """A model and the rows that it is continuing.  Rows are aligned at their right end; all share the next
    column.
    """

    def __init__(self, model: Transformer):
        self.model, self.spec = model, model.spec
        self.device = model.device
        self.attention = [block.attention.step() for block in model.blocks]
        self.ffn = [_ffn(block.ffn) for block in model.blocks]

    def prefill(self, prompts: Sequence[Sequence[int]], n_new: int, pad_id: int) -> Tensor:
        """Logits behind each prompt, float32.  The cache then holds the prompts and has room for `n_new`
        columns.
        """
        lengths = [len(prompt) for prompt in prompts]
        self.length = max(lengths)
        self.pad_B = self.length - torch.tensor(lengths, device=self.device)
        self._allocate(len(prompts), self.length + n_new)
        n_at_once = max(PREFILL_TOKENS // self.length, 1)
        starts = range(0, len(prompts), n_at_once)
        groups = [slice(start, start + n_at_once) for start in starts]
        return torch.cat([self._prefill(prompts[rows], rows, pad_id) for rows in groups])

    def _allocate(self, n_rows: int, n_columns: int) -> None:
        """Caches and turns for so many columns.

        `bias` closes padding, and the columns that are not there yet.
        """
        capacity = _rounded_up(n_columns, COLUMNS)
        like = self.model.embed.weight
        column_S = torch.arange(capacity, device=self.device)
        closed_BS = (column_S < self.pad_B[:, None]) | (column_S >= self.length)
        self.bias = like.new_zeros(n_rows, 1, capacity)
        self.bias.masked_fill_(closed_BS[:, None], -math.inf)
        self.cis = turns(self.spec, column_S)
        self.caches = [attention.allocate(n_rows, capacity, like) for attention in self.attention]

    def _prefill(self, prompts: Sequence[Sequence[int]], rows: slice, pad_id: int) -> Tensor:
        """The same for the prompts of some rows, padded to the longest of them."""
        ids_BT = _left_padded(prompts, pad_id).to(self.device)
        first = self.length - ids_BT.shape[1]
        column_T = torch.arange(first, self.length, device=self.device)

        # Positions below 0 are padding.
        pos_BT = column_T - self.pad_B[rows, None]
        mask = None
        if pos_BT.amin() < 0:
            mask = _causal_behind_padding(pos_BT)
        kept: list[Pair] = []
        h_BTD, _ = self.model.hidden(ids_BT, pos_BT.clamp(min=0), mask, kept)
        columns = slice(first, self.length)
        for attention, cache, layer in zip(self.attention, self.caches, kept):
            attention.fill(cache, layer, rows, columns)
        return self.model.logits(h_BTD[:, -1])

    def step(self, ids_B: Tensor) -> Tensor:
        """Logits behind one more token of every row, float32."""
        column = self.length
        self.length += 1
        bias = self.bias[..., : _rounded_up(self.length, COLUMNS)]
        bias[..., column] = 0
        cis = self.cis.index_select(0, column - self.pad_B)[:, None]
        h_BD = self.model.embed(ids_B)
        layers = zip(self.model.blocks, self.attention, self.caches, self.ffn)
        for block, attention, cache, ffn in layers:
            norm = block.norm_attention.few
            read_BD = block.entering(norm, h_BD)
            u_BD = attention(read_BD, cis, cache, bias, column)
            h_BD = h_BD + block.leaving(norm, u_BD)
            norm = block.norm_ffn.few
            read_BD = block.entering(norm, h_BD)
            h_BD = h_BD + block.leaving(norm, ffn(read_BD))
        return self.model.logits(h_BD)

    def rows(self, index_B: Tensor) -> None:
        """Keep, repeat or reorder rows: how a group shares its prompt and how finished rows leave."""
        for layer, cache in enumerate(self.caches):
            self.caches[layer] = tuple(tensor.index_select(0, index_B) for tensor in cache)
        self.bias = self.bias.index_select(0, index_B)
        self.pad_B = self.pad_B.index_select(0, index_B)


def _rounded_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _left_padded(prompts: Sequence[Sequence[int]], pad_id: int) -> Tensor:
    T = max(map(len, prompts))
    return torch.tensor([[pad_id] * (T - len(prompt)) + list(prompt) for prompt in prompts])


def _causal_behind_padding(pos_BT: Tensor) -> Tensor:
    """(B, 1, T, T), true where query t may attend to key s; positions below 0 are padding."""
    T = pos_BT.shape[1]
    causal = torch.ones(T, T, dtype=torch.bool, device=pos_BT.device).tril()
    itself = torch.eye(T, dtype=torch.bool, device=pos_BT.device)  # for padding too: no row of it is empty
    return ((causal & (pos_BT >= 0)[:, None]) | itself)[:, None]


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
    """An `Experts` layer for few rows: the copies of the rows are sorted by expert, then multiplied either
    expert by expert, or all experts at once after padding their groups to one size.

    A bf16 product costs about 13 us before it computes anything, so padding pays there while the spare rows
    are cheap.
    """

    def __init__(self, module: Experts):
        self.module, self.shape = module, module.shape
        self.w_gate_up, self.w_down = module.w_gate_up.matrices(), module.w_down.matrices()

    def __call__(self, h_BD: Tensor) -> Tensor:
        s, shared = self.shape, self.module.shared
        copies = Copies(self.module.route(h_BD), s.n_routed, h_BD.dtype)
        if shared is None:
            out_BD = torch.zeros_like(h_BD)
        else:
            out_BD = _dense(shared, h_BD)
        n_rows = _rounded_up(int(copies.load_E.max()), ROWS)
        n_spare = n_rows - len(copies.token_Z) / s.n_routed
        wasted = n_spare * s.d_expert * h_BD.shape[1]
        # A card waits longer for launches than for spare rows.
        if h_BD.is_cuda or wasted < SPARE.get(h_BD.dtype, 0):
            return self._padded(h_BD, out_BD, copies, n_rows)
        return self._one_by_one(h_BD, out_BD, copies)

    def _one_by_one(self, h_BD: Tensor, out_BD: Tensor, copies: "Copies") -> Tensor:
        """Each expert multiplies the rows that chose it."""
        loads = copies.load_E.tolist()
        x_ZD = h_BD.index_select(0, copies.token_Z)
        gate_up = h_BD.new_empty(len(x_ZD), self.w_gate_up.shape[-1])
        _multiply(loads, x_ZD, self.w_gate_up, gate_up)
        hidden_ZF = _swiglu(gate_up).mul_(copies.gate_Z[:, None])
        _multiply(loads, hidden_ZF, self.w_down, x_ZD)
        return out_BD.index_add_(0, copies.token_Z, x_ZD)  # (12)

    def _padded(self, h_BD: Tensor, out_BD: Tensor, copies: "Copies", n_rows: int) -> Tensor:
        """All experts multiply `n_rows` slots; the spare ones hold row 0 with gate 0."""
        slot_Z = copies.slots(n_rows)
        n_slots = len(copies.load_E) * n_rows
        token = copies.token_Z.new_zeros(n_slots)
        token.index_copy_(0, slot_Z, copies.token_Z)
        gate = copies.gate_Z.new_zeros(n_slots)
        gate.index_copy_(0, slot_Z, copies.gate_Z)
        x = h_BD.index_select(0, token).unflatten(0, (-1, n_rows))
        hidden = _swiglu(torch.bmm(x, self.w_gate_up))
        hidden.mul_(gate.view(-1, n_rows, 1))
        out = torch.bmm(hidden, self.w_down)
        return out_BD.index_add_(0, token, out.flatten(0, 1))  # (12)


def _multiply(loads: list[int], rows: Tensor, matrices: Tensor, out: Tensor) -> None:
    """out = rows @ matrices, so many rows by each matrix."""
    for group, matrix, out_group in zip(rows.split(loads), matrices, out.split(loads)):
        if len(group):
            torch.mm(group, matrix, out=out_group)


class Copies:
    """The copies of the rows, sorted by expert: whose they are, whom they go to, their gates, and how many
    each gets.
    """

    def __init__(self, routing: Routing, n_routed: int, dtype: torch.dtype):
        self.expert_Z, order_Z = routing.expert_MK.flatten().sort(stable=True)
        self.token_Z = order_Z // routing.expert_MK.shape[1]
        self.gate_Z = routing.gate_MK.flatten().index_select(0, order_Z).to(dtype)
        self.load_E = torch.bincount(self.expert_Z, minlength=n_routed)

    def slots(self, n_rows: int) -> Tensor:
        """The place of each copy where every expert has `n_rows` of them."""
        n_experts, device = len(self.load_E), self.load_E.device
        first_E = torch.arange(0, n_experts * n_rows, n_rows, device=device)
        shift_E = first_E - (self.load_E.cumsum(0) - self.load_E)
        return torch.arange(len(self.token_Z), device=device) + shift_E.index_select(0, self.expert_Z)
