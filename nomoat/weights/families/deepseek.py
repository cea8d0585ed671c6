"""`deepseek_v3`: latent attention, dense or routed layers, extra prediction depths.

What the published config can't say, and so can't be written: softmax affinities, groups scored by their best
expert, experts without a shared one, grouped queries.
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nomoat.config import ConfigError, WeightsError, parse
from nomoat.model.mla import LatentAttention
from nomoat.model.moe import Experts, SwiGLU
from nomoat.model.spec import Latent, Routed, Spec, Yarn
from nomoat.model.transformer import Block, Transformer
from nomoat.weights.slots import Slots

SPEC = {  # ours = theirs, where the value is the same
    "vocab_size": "vocab_size", "n_layers": "num_hidden_layers", "d_model": "hidden_size",
    "context": "max_position_embeddings", "norm_eps": "rms_norm_eps", "init_std": "initializer_range",
}  # fmt: skip
ATTENTION = {
    "n_heads": "num_attention_heads", "d_nope": "qk_nope_head_dim", "d_rope": "qk_rope_head_dim",
    "d_value": "v_head_dim", "d_kv_latent": "kv_lora_rank", "d_q_latent": "q_lora_rank",
}  # fmt: skip
ROUTED = {
    "d_dense": "intermediate_size", "n_dense_layers": "first_k_dense_replace", "n_routed": "n_routed_experts",
    "n_shared": "n_shared_experts", "n_active": "num_experts_per_tok", "d_expert": "moe_intermediate_size",
    "n_groups": "n_group", "n_active_groups": "topk_group", "normalise_gates": "norm_topk_prob",
    "routed_scale": "routed_scaling_factor",
}  # fmt: skip
ONLY = {  # what the architecture fixes; an absent key means the value here
    "hidden_act": "silu", "attention_bias": False, "rope_interleave": True, "moe_layer_freq": 1,
    "scoring_func": "sigmoid", "topk_method": "noaux_tc",
}  # fmt: skip
WRITTEN = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "attention_dropout": 0.0,
    "use_cache": True,
}  # fmt: skip
YARN = {  # what readers know of YaRN; with any other key the positions are of another kind
    "rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "beta_fast", "beta_slow",
    "mscale", "mscale_all_dim", "attention_factor", "truncate",
}  # fmt: skip


# --- tensors ---


def slots(model: Transformer) -> Slots:
    """Published name -> view of our parameter."""
    views = {"model.embed_tokens.weight": model.embed.weight, "model.norm.weight": model.norm.weight}
    if not model.spec.tied:
        views["lm_head.weight"] = model.head.weight
    for i, block in enumerate(model.blocks):
        views |= _block(f"model.layers.{i}", block)
    for i, depth in enumerate(model.depths, start=model.spec.n_layers):
        layer = f"model.layers.{i}"
        views |= {
            f"{layer}.enorm.weight": depth.norm_embed.weight,
            f"{layer}.hnorm.weight": depth.norm_hidden.weight,
            f"{layer}.eh_proj.weight": depth.w_join.weight,
            f"{layer}.shared_head.norm.weight": depth.norm.weight,
        }
        views |= _block(layer, depth.block)
    return views


def copies(model: Transformer) -> Slots:
    """Names under which published files repeat the embedding and the head; read, compared, never written."""
    spec = model.spec
    views = {"lm_head.weight": model.embed.weight} if spec.tied else {}
    for i in range(spec.n_layers, spec.n_layers + spec.n_mtp):
        views[f"model.layers.{i}.embed_tokens.weight"] = model.embed.weight
        views[f"model.layers.{i}.shared_head.head.weight"] = model.head.weight
    return views


def _block(layer: str, block: Block) -> dict[str, Tensor]:
    views = {
        f"{layer}.input_layernorm.weight": block.norm_attention.weight,
        f"{layer}.post_attention_layernorm.weight": block.norm_ffn.weight,
    }
    views |= _attention(f"{layer}.self_attn", block.attention)
    ffn = _dense if isinstance(block.ffn, SwiGLU) else _experts
    return views | ffn(f"{layer}.mlp", block.ffn)


def _attention(at: str, attention: LatentAttention) -> dict[str, Tensor]:
    query, key_value = attention.w_in.weight.tensor_split([attention.widths[0]])
    views = {
        f"{at}.kv_a_proj_with_mqa.weight": key_value,
        f"{at}.kv_a_layernorm.weight": attention.norm_kv.weight,
        f"{at}.kv_b_proj.weight": attention.w_ukv.weight,
        f"{at}.o_proj.weight": attention.w_o.weight,
    }
    if attention.shape.d_q_latent is None:
        return views | {f"{at}.q_proj.weight": query}
    return views | {
        f"{at}.q_a_proj.weight": query,
        f"{at}.q_a_layernorm.weight": attention.norm_q.weight,
        f"{at}.q_b_proj.weight": attention.w_uq.weight,
    }


def _dense(at: str, ffn: SwiGLU) -> dict[str, Tensor]:
    gate, up = ffn.w_gate_up.weight.chunk(2)
    return {
        f"{at}.gate_proj.weight": gate,
        f"{at}.up_proj.weight": up,
        f"{at}.down_proj.weight": ffn.w_down.weight,
    }


def _experts(at: str, ffn: Experts) -> dict[str, Tensor]:
    views = {f"{at}.gate.weight": ffn.w_router.weight, f"{at}.gate.e_score_correction_bias": ffn.bias_E}
    if ffn.shared is not None:
        views |= _dense(f"{at}.shared_experts", ffn.shared)
    for e, (gate_up, down) in enumerate(zip(ffn.w_gate_up.weight, ffn.w_down.weight)):
        views |= _gated(f"{at}.experts.{e}", gate_up, down.T)
    return views


def _gated(at: str, gate_up: Tensor, down: Tensor) -> dict[str, Tensor]:
    gate, up = gate_up.chunk(2)
    return {f"{at}.gate_proj.weight": gate, f"{at}.up_proj.weight": up, f"{at}.down_proj.weight": down}


# --- config.json ---


def spec_of(config: Mapping[str, Any], names: set[str]) -> Spec:
    """The Spec of a published config.json beside tensors of these names; WeightsError for what can't be."""
    for key, only in {**ONLY, "quantization_config": None}.items():
        if config.get(key, only) != only:
            raise WeightsError(
                f"config.json has {key} = {config[key]!r}; expected {only!r}; convert the weights first"
            )
    heads, heads_kv = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if heads_kv not in (heads, None):
        raise WeightsError(
            f"num_key_value_heads is {heads_kv}; expected {heads}: latent attention doesn't group heads"
        )
    n_layers = _number(config, "num_hidden_layers", 0)
    n_mtp = config.get("num_nextn_predict_layers", config.get("num_mtp_layers", 0))
    rope_theta, yarn = _rope_of(config)
    table = {
        **_renamed(config, SPEC),
        "attention": {"kind": "latent", **_renamed(config, ATTENTION)},
        "ffn": _ffn_of(config, n_layers),
        "n_mtp": n_mtp if any(name.startswith(f"model.layers.{n_layers}.") for name in names) else 0,
        "rope_theta": rope_theta,
        "stretch": yarn,
        "tied": config.get("tie_word_embeddings", False),
    }
    try:
        return parse(Spec, table, "config.json")
    except ConfigError as error:
        raise WeightsError(f"{error}\nexpected a DeepSeek-V3 config.json (the keys above are ours)") from None


def _ffn_of(config: Mapping[str, Any], n_layers: float) -> dict[str, Any]:
    if _number(config, "first_k_dense_replace", 3) >= n_layers or not config.get("n_routed_experts"):
        return {"kind": "dense", **_renamed(config, {"d_hidden": "intermediate_size"})}
    return {"kind": "routed", **_renamed(config, ROUTED)}


def _renamed(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: config[theirs] for ours, theirs in names.items() if theirs in config}


def _rope_of(config: Mapping[str, Any]) -> tuple[float, Yarn | None]:
    """Base and YaRN from either spelling: `rope_theta` with `rope_scaling`, or `rope_parameters`."""
    newer = config.get("rope_parameters") or {}
    rope = config.get("rope_scaling") or newer
    theta = {"rope_theta": 10000.0, **config, **newer, **rope}["rope_theta"]
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "yarn" or set(rope) - YARN or not rope.get("truncate", True):
        raise WeightsError(
            f"rotary positions of type {kind!r} with {sorted(rope)}; expected 'default' or plain 'yarn'"
        )
    context = _number(config, "max_position_embeddings", 4096)
    original = _number(rope, "original_max_position_embeddings", context)
    table = {
        "factor": _number(rope, "factor", context / max(original, 1)),
        "original_context": original,
        "beta_fast": _number(rope, "beta_fast", 32.0),
        "beta_slow": _number(rope, "beta_slow", 1.0),
        "mscale": _number(rope, "mscale", 0.0),
        "mscale_all_dim": _number(rope, "mscale_all_dim", 0.0),
    }
    try:
        return theta, _scaled(parse(Yarn, table, "rope_scaling"), _number(rope, "attention_factor", 0.0))
    except ConfigError as error:
        raise WeightsError(f"{error}; expected YaRN's numbers in config.json") from None


def _scaled(yarn: Yarn, turn_scale: float) -> Yarn:
    """With the scale of cos and sin that the config names, or, where it names none, transformers' rule."""
    if not turn_scale and not (yarn.mscale and yarn.mscale_all_dim):
        turn_scale = 0.1 * math.log(max(yarn.factor, 1)) + 1.0
    if not turn_scale or yarn.factor <= 1:
        return yarn
    if math.isclose(turn_scale, yarn.turn_scale, rel_tol=1e-12):
        return yarn
    magnitude = turn_scale * yarn.magnitude(yarn.mscale_all_dim)
    mscale = (magnitude - 1.0) / (0.1 * math.log(yarn.factor))
    return yarn.model_copy(update={"mscale": round(mscale, 12)})


def _number(table: Mapping[str, Any], key: str, absent: float) -> float:
    value = absent if table.get(key) is None else table[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WeightsError(f"config.json has {key} = {value!r}; expected a number; fetch or export it again")
    return value


def config_of(spec: Spec) -> dict[str, Any]:
    """config.json for transformers 4.5x and 5.x and vLLM: both spellings of the rotary positions."""
    if not isinstance(spec.attention, Latent):
        raise WeightsError(
            "the model has grouped-query attention, which deepseek_v3 can't say; train with latent attention"
        )
    rope: dict[str, Any] = {"rope_type": "default"}
    if spec.stretch is not None:
        rope = {"rope_type": "yarn", **spec.stretch.model_dump(exclude={"kind"})}
        rope["original_max_position_embeddings"] = rope.pop("original_context")
        if not (spec.stretch.mscale and spec.stretch.mscale_all_dim):
            rope["attention_factor"] = (
                spec.turn_scale
            )  # readers take an absent or zero factor for something else
    return {
        **WRITTEN,
        **{theirs: getattr(spec, ours) for ours, theirs in SPEC.items()},
        **{theirs: getattr(spec.attention, ours) for ours, theirs in ATTENTION.items()},
        "num_key_value_heads": spec.attention.n_heads,
        **_experts_of(spec),
        **ONLY,
        "num_nextn_predict_layers": spec.n_mtp,
        "tie_word_embeddings": spec.tied,
        "rope_theta": spec.rope_theta,
        "rope_scaling": {"type": "yarn", **rope} if spec.stretch else None,
        "rope_parameters": {"rope_theta": spec.rope_theta, **rope},
    }


def _experts_of(spec: Spec) -> dict[str, Any]:
    f = spec.ffn
    if not isinstance(f, Routed):  # experts that no layer has, in numbers that readers accept
        none = dict.fromkeys(ROUTED.values(), 1)
        none |= {"first_k_dense_replace": spec.n_layers + spec.n_mtp, "moe_intermediate_size": f.d_hidden}
        none |= {"n_routed_experts": 2, "norm_topk_prob": True, "routed_scaling_factor": 1.0}
        return none | {"intermediate_size": f.d_hidden}
    wrong = {
        "scoring": f.scoring != "sigmoid",
        "n_shared": f.n_shared < 1,
        "group_score": f.n_groups > 1 and f.group_score != "top2",
    }
    for name in (name for name, is_wrong in wrong.items() if is_wrong):
        raise WeightsError(
            f"the model has {name} = {getattr(f, name)!r}, which deepseek_v3 can't say; expected sigmoid "
            "affinities, groups scored by their best two and a shared expert; train with those to export"
        )
    return {theirs: getattr(f, ours) for ours, theirs in ROUTED.items()}
