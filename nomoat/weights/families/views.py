"""Views that families share: published name -> view of our parameter, of attention, feed-forward and whole
models.

Rotation here is over neighbouring pairs.  Weights that are published in halves (x0 with x[R/2]) are the same
numbers in another order, so that a view of ours in that order is all it takes: no flag, no second rotation.
"""

from collections.abc import Callable

from torch import Tensor

from nomoat.config import WeightsError
from nomoat.model.gqa import GroupedAttention
from nomoat.model.moe import Experts, SwiGLU
from nomoat.model.norm import RMSNorm
from nomoat.model.transformer import Block, Transformer

Views = dict[str, Tensor]
NORMS = "input_layernorm", "post_attention_layernorm"


def half_split(rows: Tensor, d_head: int) -> Tensor:
    """Rows (H R, …) of queries, keys or gains as halves have them: a view (H, 2, R/2, …)."""
    pairs = rows.unflatten(0, (-1, d_head // 2, 2))
    return pairs.transpose(1, 2)


def whole(model: Transformer, block: Callable[[str, Block], Views]) -> Views:
    """Embedding, every block at its place, norm, and the head where it is a matrix of its own."""
    views = {"model.embed_tokens.weight": model.embed.weight}
    for i, layer in enumerate(model.blocks):
        views |= block(f"model.layers.{i}", layer)
    views["model.norm.weight"] = model.norm.weight
    if not model.spec.tied:
        views["lm_head.weight"] = model.head.weight
    return views


def copies(model: Transformer) -> Views:
    """A head that a file repeats although it is the embedding."""
    return {"lm_head.weight": model.embed.weight} if model.spec.tied else {}


def grouped(model: Transformer) -> Views:
    """A whole model of grouped queries under the names that most families give."""
    return whole(model, block)


def block(at: str, layer: Block, norms: tuple[str, str] = NORMS) -> Views:
    """Grouped attention and a dense or routed feed-forward; `norms`: their names, of attention's first."""
    views = {
        f"{at}.{norms[0]}.weight": layer.norm_attention.weight,
        f"{at}.{norms[1]}.weight": layer.norm_ffn.weight,
    }
    views |= attention(f"{at}.self_attn", layer.attention)
    return views | feed_forward(f"{at}.mlp", layer.ffn)


def attention(at: str, module: GroupedAttention) -> Views:
    """Queries, keys and values apart, in halves; biases and norms where there are any."""
    a = module.shape
    views = {f"{at}.o_proj.weight": module.w_o.weight} | rows(f"{at}", module.w_in.weight, module)
    if a.qkv_bias:
        views |= rows(at, module.w_in.bias, module, "bias")
    if a.out_bias:
        views[f"{at}.o_proj.bias"] = module.w_o.bias
    for name, norm in (("q_norm", module.norm_q), ("k_norm", module.norm_k)):
        if isinstance(norm, RMSNorm):
            views[f"{at}.{name}.weight"] = half_split(norm.weight, a.d_head)
    return views


def rows(at: str, joined: Tensor, module: GroupedAttention, kind: str = "weight") -> Views:
    """Rows of queries, keys and values of a matrix or bias."""
    q, k, v = joined.split(module.shape.widths)
    d_head = module.shape.d_head
    return {
        f"{at}.q_proj.{kind}": half_split(q, d_head),
        f"{at}.k_proj.{kind}": half_split(k, d_head),
        f"{at}.v_proj.{kind}": v,
    }


def feed_forward(at: str, module: SwiGLU | Experts, bias: str | None = None) -> Views:
    """Dense or routed; `bias` is the name of the routing biases, where they have one."""
    return dense(at, module) if isinstance(module, SwiGLU) else experts(at, module, bias)


def dense(at: str, module: SwiGLU) -> Views:
    return gated(at, module.w_gate_up.weight, module.w_down.weight)


def gated(at: str, gate_up: Tensor, down: Tensor) -> Views:
    gate, up = gate_up.chunk(2)
    return {f"{at}.gate_proj.weight": gate, f"{at}.up_proj.weight": up, f"{at}.down_proj.weight": down}


def experts(at: str, module: Experts, bias: str | None) -> Views:
    """Router, routed experts one by one, shared ones.  WeightsError for balancing biases without a name."""
    views = {f"{at}.gate.weight": module.w_router.weight}
    if bias:
        views[f"{at}.gate.{bias}"] = module.bias_E
    elif not module.bias_E.is_meta and module.bias_E.any():
        raise WeightsError(
            f"{at} has balancing biases, for which these published weights have no name; expected none; "
            "train with scoring = 'sigmoid' to export them"
        )
    if module.shared is not None:
        views |= dense(f"{at}.shared_experts", module.shared)
    for e, (gate_up, down) in enumerate(zip(module.w_gate_up.weight, module.w_down.weight)):
        views |= gated(f"{at}.experts.{e}", gate_up, down.T)
    return views
