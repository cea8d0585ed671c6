"""What `deepseek_v2` and `deepseek_v3` share: latent attention, experts with shared ones."""

from collections.abc import Sequence
from typing import Any

from nomoat.config import WeightsError
from nomoat.model.mla import LatentAttention
from nomoat.model.spec import Routed, Spec
from nomoat.model.transformer import Block
from nomoat.weights.families import configs, views

ATTENTION = {  # ours = theirs
    "n_heads": "num_attention_heads", "d_nope": "qk_nope_head_dim", "d_rope": "qk_rope_head_dim",
    "d_value": "v_head_dim", "d_kv_latent": "kv_lora_rank", "d_q_latent": "q_lora_rank",
}  # fmt: skip
ROUTED = {
    "d_dense": "intermediate_size", "n_dense_layers": "first_k_dense_replace", "n_routed": "n_routed_experts",
    "n_shared": "n_shared_experts", "n_active": "num_experts_per_tok", "d_expert": "moe_intermediate_size",
    "n_groups": "n_group", "n_active_groups": "topk_group", "normalise_gates": "norm_topk_prob",
    "routed_scale": "routed_scaling_factor",
}  # fmt: skip
LIMITS = {"attention.kind": ("latent",), "positions": ("rope",), "norm_place": ("before",)}


def block(at: str, layer: Block, bias: str | None = None) -> views.Views:
    """`bias` is the name of the routing biases, where they have one."""
    table = {
        f"{at}.input_layernorm.weight": layer.norm_attention.weight,
        f"{at}.post_attention_layernorm.weight": layer.norm_ffn.weight,
        **attention(f"{at}.self_attn", layer.attention),
    }
    return table | views.feed_forward(f"{at}.mlp", layer.ffn, bias)


def attention(at: str, module: LatentAttention) -> views.Views:
    query, key_value = module.w_in.weight.tensor_split([module.widths[0]])
    table = {
        f"{at}.kv_a_proj_with_mqa.weight": key_value,
        f"{at}.kv_a_layernorm.weight": module.norm_kv.weight,
        f"{at}.kv_b_proj.weight": module.w_ukv.weight,
        f"{at}.o_proj.weight": module.w_o.weight,
    }
    if module.shape.d_q_latent is None:
        return table | {f"{at}.q_proj.weight": query}
    return table | {
        f"{at}.q_a_proj.weight": query,
        f"{at}.q_a_layernorm.weight": module.norm_q.weight,
        f"{at}.q_b_proj.weight": module.w_uq.weight,
    }


def parts_of(config: configs.Config, **routed: Any) -> dict[str, Any]:
    """Attention and feed-forward of a Spec; `routed` are facts of the family's experts."""
    heads, heads_kv = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if heads_kv not in (heads, None):
        raise WeightsError(
            f"num_key_value_heads is {heads_kv}; expected {heads}: latent attention doesn't group heads"
        )
    attention = {"kind": "latent", **configs.renamed(config, ATTENTION)}
    n_dense = configs.number(config, "first_k_dense_replace", 0)
    if n_dense >= configs.number(config, "num_hidden_layers", 0) or not config.get("n_routed_experts"):
        return {"attention": attention, "ffn": configs.hidden(config)}
    return {"attention": attention, "ffn": {"kind": "routed", **configs.renamed(config, ROUTED), **routed}}


def config_of(spec: Spec, family: str, architecture: str) -> dict[str, Any]:
    """What both write; the experts of a dense model in numbers that readers accept and no layer has."""
    table = configs.common(spec, family, architecture)
    table |= configs.said(spec.attention, ATTENTION)
    table["num_key_value_heads"] = spec.attention.n_heads
    table |= {"attention_bias": False, "moe_layer_freq": 1}
    experts = configs.said(spec.ffn, ROUTED) if isinstance(spec.ffn, Routed) else _none(spec)
    return table | experts


def _none(spec: Spec) -> dict[str, Any]:
    """Experts that no layer has, in numbers that readers accept."""
    table: dict[str, Any] = dict.fromkeys(ROUTED.values(), 1)
    table["first_k_dense_replace"] = spec.n_layers + spec.n_mtp
    table |= {"n_routed_experts": 2, "norm_topk_prob": True, "routed_scaling_factor": 1.0}
    width = spec.ffn.d_hidden
    return table | {"moe_intermediate_size": width, "intermediate_size": width}


def check_experts(spec: Spec, family: str, limits: dict[str, Sequence[Any]]) -> None:
    """WeightsError for experts that the family can't say, or without a shared one."""
    limits = dict(limits)
    if isinstance(spec.ffn, Routed):
        limits["ffn.n_shared"] = range(1, max(spec.ffn.n_shared, 1) + 1)
        if spec.ffn.n_groups == 1:
            del limits["ffn.group_score"]
    else:
        limits = {"ffn.gated": (True,)}
    configs.check(spec, family, limits)
