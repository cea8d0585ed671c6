"""Names of tensors in a GGUF file -> views of our parameters, each with the shape that the file gives it.

llama.cpp turns neighbouring pairs in some architectures, as we do, and halves in others: a view of ours in
that order is all it takes.  Experts are stacked; the way up of latent attention is split, keys transposed.
"""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from nomoat.model.gqa import GroupedAttention
from nomoat.model.mla import LatentAttention
from nomoat.model.moe import Experts, SwiGLU
from nomoat.model.mtp import Depth
from nomoat.model.transformer import Block, Transformer
from nomoat.weights.families.views import half_split

HALVED = ("qwen2", "qwen3", "qwen3moe", "olmo2")
OPTIONAL = "exp_probs_b.bias"  # absent: no expert is favoured


class Slot(NamedTuple):
    """A view of a parameter, and the shape in which a file has its numbers."""

    view: Tensor
    shape: tuple[int, ...]

    def published(self) -> Tensor:
        return self.view.detach().reshape(self.shape)


def slots(model: Transformer, architecture: str, *, split: bool = True) -> dict[str, Slot]:
    """Every tensor of a file; `split`: whether latent attention's way up stands in two tensors."""
    views = {"token_embd.weight": model.embed.weight, "output_norm.weight": model.norm.weight}
    if not model.spec.tied:
        views["output.weight"] = model.head.weight
    table = {name: _whole(view) for name, view in views.items()}
    blocks = [*model.blocks]
    blocks += [depth.block for depth in model.depths]
    for i, block in enumerate(blocks):
        for name, slot in _block(block, architecture, split):
            table[f"blk.{i}.{name}"] = slot
    for i, depth in enumerate(model.depths, start=model.spec.n_layers):
        for name, slot in _depth(depth):
            table[f"blk.{i}.nextn.{name}.weight"] = slot
    return table


def _depth(depth: Depth) -> Iterator[tuple[str, Slot]]:
    yield "eh_proj", _whole(depth.w_join.weight)
    yield "enorm", _whole(depth.norm_embed.weight)
    yield "hnorm", _whole(depth.norm_hidden.weight)
    yield "shared_head_norm", _whole(depth.norm.weight)


def copies(model: Transformer) -> dict[str, Tensor]:
    """Names under which files repeat the embedding and the head."""
    repeated = {}
    for i in range(model.spec.n_layers, model.spec.n_layers + model.spec.n_mtp):
        repeated[f"blk.{i}.nextn.embed_tokens.weight"] = model.embed.weight
        repeated[f"blk.{i}.nextn.shared_head_head.weight"] = model.head.weight
    return repeated


def _block(block: Block, architecture: str, split: bool) -> Iterator[tuple[str, Slot]]:
    names = "attn_norm", "ffn_norm"
    if block.after:
        names = "post_attention_norm", "post_ffw_norm"
    for name, norm in zip(names, (block.norm_attention, block.norm_ffn)):
        yield f"{name}.weight", _whole(norm.weight)
    if isinstance(block.attention, LatentAttention):
        yield from _latent(block.attention, split)
    else:
        yield from _grouped(block.attention, architecture in HALVED)
    yield from _dense(block.ffn, "") if isinstance(block.ffn, SwiGLU) else _experts(block.ffn, architecture)


def _whole(view: Tensor) -> Slot:
    return Slot(view, tuple(view.shape))


def _rows(view: Tensor, d_head: int, halved: bool) -> Slot:
    """Rows of queries, keys or gains (H R, …), in the file's order within each head."""
    shape = tuple(view.shape)
    if halved:
        view = half_split(view, d_head)
    return Slot(view, shape)


def _grouped(attention: GroupedAttention, halved: bool) -> Iterator[tuple[str, Slot]]:
    d_head = attention.shape.d_head
    for kind in ("weight", "bias"):
        joined, out = getattr(attention.w_in, kind), getattr(attention.w_o, kind)
        if joined is not None:
            q, k, v = joined.split(attention.shape.widths)
            yield f"attn_q.{kind}", _rows(q, d_head, halved)
            yield f"attn_k.{kind}", _rows(k, d_head, halved)
            yield f"attn_v.{kind}", _whole(v)
        if out is not None:
            yield f"attn_output.{kind}", _whole(out)
    for part in ("q", "k"):
        norm = getattr(attention, f"norm_{part}")
        if norm is not None:
            yield f"attn_{part}_norm.weight", _rows(norm.weight, d_head, halved)


def _latent(attention: LatentAttention, split: bool) -> Iterator[tuple[str, Slot]]:
    a = attention.shape
    query, key_value = attention.w_in.weight.tensor_split([attention.widths[0]])
    if a.d_q_latent is None:
        yield "attn_q.weight", _whole(query)
    else:
        yield "attn_q_a.weight", _whole(query)
        yield "attn_q_a_norm.weight", _whole(attention.norm_q.weight)
        yield "attn_q_b.weight", _whole(attention.w_uq.weight)
    yield "attn_kv_a_mqa.weight", _whole(key_value)
    yield "attn_kv_a_norm.weight", _whole(attention.norm_kv.weight)
    if split:
        w_ukv = attention.w_ukv.weight.unflatten(0, (a.n_heads, -1))
        w_uk_HNC, w_uv_HWC = w_ukv.split((a.d_nope, a.d_value), 1)
        yield "attn_k_b.weight", _whole(w_uk_HNC.transpose(1, 2))
        yield "attn_v_b.weight", _whole(w_uv_HWC)
    else:
        yield "attn_kv_b.weight", _whole(attention.w_ukv.weight)
    yield "attn_output.weight", _whole(attention.w_o.weight)


def _dense(ffn: SwiGLU, kind: str) -> Iterator[tuple[str, Slot]]:
    gate, up = ffn.w_gate_up.weight.chunk(2)
    yield f"ffn_gate{kind}.weight", _whole(gate)
    yield f"ffn_up{kind}.weight", _whole(up)
    yield f"ffn_down{kind}.weight", _whole(ffn.w_down.weight)


def _experts(ffn: Experts, architecture: str) -> Iterator[tuple[str, Slot]]:
    yield "ffn_gate_inp.weight", _whole(ffn.w_router.weight)
    if architecture == "deepseek2":
        yield OPTIONAL, _whole(ffn.bias_E)
    gate, up = ffn.w_gate_up.weight.chunk(2, dim=1)
    yield "ffn_gate_exps.weight", _whole(gate)
    yield "ffn_up_exps.weight", _whole(up)
    yield "ffn_down_exps.weight", _whole(ffn.w_down.weight.mT)
    if ffn.shared is not None:
        yield from _dense(ffn.shared, "_shexp")
