"""Metadata <-> Spec for the architectures of llama.cpp that our model can be.

A spec that doesn't come back from its own keys isn't written (save.py), nor one that llama.cpp would compute
otherwise (limits.py).  llama.cpp scores groups of experts by their best two whatever the affinities;
DeepSeek-V2's files (softmax) are read with the rule of their own report, the best one.
"""

from typing import Any

from nomoat.config import ConfigError, WeightsError, parse
from nomoat.model.spec import Grouped, Latent, Routed, Spec
from nomoat.weights.gguf import positions
from nomoat.weights.gguf.header import Header
from nomoat.weights.gguf.metadata import Metadata

ARCHITECTURES = ("llama", "qwen2", "qwen3", "qwen3moe", "smollm3", "olmo2", "deepseek2")
UNROTATED_EVERY = 4  # SmolLM3: llama.cpp has it in its code, no key
SOFTMAX, SIGMOID = 1, 2  # expert_gating_func
REFUSED = (  # what changes the numbers and isn't computed here
    "attention.sliding_window", "attention.clamp_kqv", "attention.scale", "attention.max_alibi_bias",
    "attention.temperature_scale", "attn_logit_softcapping", "final_logit_softcapping", "logit_scale",
    "embedding_scale", "residual_scale", "use_parallel_residual",
)  # fmt: skip


def spec_of(header: Header) -> Spec:
    """The Spec in a file's metadata; WeightsError for what isn't known or isn't computed."""
    facts = Metadata(header.path, header.meta)
    architecture = facts.architecture
    if architecture not in ARCHITECTURES:
        raise WeightsError(
            f"{header.path} has architecture {architecture!r}; expected one of {', '.join(ARCHITECTURES)}; "
            "choose another model"
        )
    for key in (key for key in REFUSED if facts.table.get(f"{architecture}.{key}")):
        value = facts.table[f"{architecture}.{key}"]
        raise WeightsError(
            f"{header.path} has {architecture}.{key} = {value!r}; expected none; choose another model"
        )
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise WeightsError(f"{header.path} has no matrix token_embd.weight; expected one; fetch it again")
    latent = architecture == "deepseek2"
    table = {
        "vocab_size": embedding.shape[0],
        "d_model": facts.fact("embedding_length"),
        "context": facts.fact("context_length"),
        "rope_theta": facts.real("rope.freq_base", 10000.0),
        "norm_eps": facts.real("attention.layer_norm_rms_epsilon"),
        "stretch": positions.stretch_of(facts),
        "tied": "output.weight" not in header.tensors,
        "norm_place": "after" if architecture == "olmo2" else "before",
        **_layers(facts, header),
        "attention": _latent(facts, header) if latent else _grouped(facts, header),
    }
    table["ffn"] = _ffn(facts, table["n_layers"])
    try:
        return parse(Spec, table, str(header.path))
    except ConfigError as error:
        raise WeightsError(f"{error}\nexpected keys that fit together (those above are ours)") from None


def _layers(facts: Metadata, header: Header) -> dict[str, Any]:
    n_blocks, n_depths = facts.fact("block_count"), facts.fact("nextn_predict_layers", 0)
    n_layers = n_blocks - n_depths
    if n_blocks > len(header.tensors):
        raise WeightsError(
            f"{facts.path} announces {n_blocks} layers and has {len(header.tensors)} tensors; expected more "
            "tensors than layers; fetch or export it again"
        )
    unrotated = range(UNROTATED_EVERY - 1, n_layers, UNROTATED_EVERY)
    return {
        "n_layers": n_layers,
        "n_mtp": n_depths if f"blk.{n_layers}.nextn.eh_proj.weight" in header.tensors else 0,
        "unrotated": tuple(unrotated) if facts.architecture == "smollm3" else (),
    }


def _grouped(facts: Metadata, header: Header) -> dict[str, Any]:
    n_heads = facts.fact("attention.head_count")
    d_head = facts.fact("attention.key_length", facts.fact("embedding_length") // max(n_heads, 1))
    if facts.fact("rope.dimension_count", d_head) != d_head:
        raise WeightsError(
            f"{facts.path} rotates a part of each head of {d_head}; expected the whole; choose another model"
        )
    norms = {"olmo2": "whole", "qwen3": "head", "qwen3moe": "head"}
    return {
        "kind": "grouped",
        "n_heads": n_heads,
        "n_kv_heads": facts.fact("attention.head_count_kv", n_heads),
        "d_head": d_head,
        "d_value": facts.fact("attention.value_length", d_head),
        "qkv_bias": "blk.0.attn_q.bias" in header.tensors,
        "out_bias": "blk.0.attn_output.bias" in header.tensors,
        "qk_norm": norms.get(facts.architecture),
    }


def _latent(facts: Metadata, header: Header) -> dict[str, Any]:
    split = "_mla" if "blk.0.attn_k_b.weight" in header.tensors else ""
    d_rope = facts.fact("rope.dimension_count")
    with_query = "blk.0.attn_q_a.weight" in header.tensors
    return {
        "kind": "latent",
        "n_heads": facts.fact("attention.head_count"),
        "d_nope": facts.fact(f"attention.key_length{split}") - d_rope,
        "d_rope": d_rope,
        "d_value": facts.fact(f"attention.value_length{split}"),
        "d_kv_latent": facts.fact("attention.kv_lora_rank"),
        "d_q_latent": facts.fact("attention.q_lora_rank") if with_query else None,
    }


def _ffn(facts: Metadata, n_layers: int) -> dict[str, Any]:
    dense = {"kind": "dense", "d_hidden": facts.fact("feed_forward_length")}
    n_routed, n_dense = facts.fact("expert_count", 0), facts.fact("leading_dense_block_count", 0)
    if not n_routed or n_dense >= n_layers:
        return dense
    if facts.architecture not in ("qwen3moe", "deepseek2"):
        raise WeightsError(
            f"{facts.path} has {n_routed} experts in architecture {facts.architecture!r}; expected qwen3moe "
            "or deepseek2; choose another model"
        )
    qwen = facts.architecture == "qwen3moe"
    sigmoid = facts.fact("expert_gating_func", SOFTMAX) == SIGMOID
    n_groups = max(facts.fact("expert_group_count", 1), 1)
    return {
        "kind": "routed",
        "n_dense_layers": n_dense,
        "d_dense": dense["d_hidden"],
        "n_routed": n_routed,
        "n_shared": facts.fact("expert_shared_count", 0),
        "n_active": facts.fact("expert_used_count"),
        "d_expert": facts.fact("expert_feed_forward_length"),
        "n_groups": n_groups,
        "n_active_groups": max(facts.fact("expert_group_used_count", 1), 1),
        "group_score": "top2" if sigmoid or n_groups == 1 else "max",
        "scoring": "sigmoid" if sigmoid else "softmax",
        "normalise_gates": qwen or facts.flag("expert_weights_norm", False),
        "routed_scale": facts.real("expert_weights_scale", 0.0) or 1.0,
    }


# --- out ---


def architecture_of(spec: Spec) -> str:
    """The architecture that can say a spec, if one can."""
    a = spec.attention
    if isinstance(a, Latent):
        return "deepseek2"
    if spec.norm_place == "after":
        return "olmo2"
    if a.qk_norm:
        return "qwen3moe" if isinstance(spec.ffn, Routed) else "qwen3"
    if spec.unrotated:
        return "smollm3"
    return "qwen2" if a.qkv_bias and not a.out_bias else "llama"


def keys_of(spec: Spec, architecture: str) -> dict[str, Any]:
    """Every key of the architecture; int, float, bool and str stand for uint32, float32, bool and string."""
    keys = {
        "context_length": spec.context,
        "embedding_length": spec.d_model,
        "block_count": spec.n_layers + spec.n_mtp,
        "feed_forward_length": spec.d_dense,
        "vocab_size": spec.vocab_size,
        "attention.layer_norm_rms_epsilon": spec.norm_eps,
        "rope.freq_base": spec.rope_theta,
        **(_latent_keys(spec) if isinstance(spec.attention, Latent) else _grouped_keys(spec.attention)),
        **(_expert_keys(spec) if isinstance(spec.ffn, Routed) else {}),
        **positions.keys_of(spec, architecture),
    }
    if spec.n_mtp:
        keys["nextn_predict_layers"] = spec.n_mtp
    return {f"{architecture}.{key}": value for key, value in keys.items()}


def _grouped_keys(a: Grouped) -> dict[str, Any]:
    return {
        "attention.head_count": a.n_heads,
        "attention.head_count_kv": a.n_kv_heads,
        "attention.key_length": a.d_head,
        "attention.value_length": a.d_value,
        "rope.dimension_count": a.d_head,
    }


def _latent_keys(spec: Spec) -> dict[str, Any]:
    """Keys and values are made from one latent, which llama.cpp sees as a single key-value head."""
    a = spec.attention
    keys = {
        "attention.head_count": a.n_heads,
        "attention.head_count_kv": 1,
        "attention.key_length": a.d_kv_latent + a.d_rope,
        "attention.value_length": a.d_kv_latent,
        "attention.key_length_mla": a.d_query,
        "attention.value_length_mla": a.d_value,
        "attention.kv_lora_rank": a.d_kv_latent,
        "attention.q_lora_rank": a.d_q_latent or 0,
        "rope.dimension_count": a.d_rope,
    }
    if isinstance(spec.ffn, Routed):
        return keys
    n_dense = spec.n_layers + spec.n_mtp
    unused = {"expert_feed_forward_length": spec.d_dense, "expert_shared_count": 1}
    return keys | {"leading_dense_block_count": n_dense, **unused}


def _expert_keys(spec: Spec) -> dict[str, Any]:
    f = spec.ffn
    keys = {
        "expert_count": f.n_routed,
        "expert_used_count": f.n_active,
        "expert_feed_forward_length": f.d_expert,
    }
    if isinstance(spec.attention, Grouped):
        return keys
    return keys | {
        "leading_dense_block_count": f.n_dense_layers,
        "expert_shared_count": f.n_shared,
        "expert_group_count": f.n_groups,
        "expert_group_used_count": f.n_active_groups,
        "expert_gating_func": SIGMOID if f.scoring == "sigmoid" else SOFTMAX,
        "expert_weights_norm": f.normalise_gates,
        "expert_weights_scale": f.routed_scale,
    }
