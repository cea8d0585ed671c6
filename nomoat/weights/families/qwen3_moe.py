"""`qwen3_moe`: the attention of qwen3, and behind the dense layers experts without a shared one.

The number of experts is `num_experts` in published files, `num_local_experts` in those of transformers 5.
"""

from nomoat.config import WeightsError
from nomoat.model.spec import Spec
from nomoat.weights.families import configs, rotary, views

FAMILY = "qwen3_moe"
LIMITS = {
    **configs.GROUPED, "attention.qk_norm": ("head",), "ffn.kind": ("routed",), "ffn.scoring": ("softmax",),
    "ffn.n_shared": (0,), "ffn.n_groups": (1,), "ffn.routed_scale": (1.0,),
}  # fmt: skip
DEFAULTS = {
    "max_position_embeddings": 32768, "sliding_window": 4096, "norm_topk_prob": False, "num_experts": 128,
    "num_experts_per_tok": 8, "moe_intermediate_size": 768, "num_key_value_heads": 4,
}  # fmt: skip
ROUTED = {
    "d_dense": "intermediate_size", "n_routed": "num_experts", "n_active": "num_experts_per_tok",
    "d_expert": "moe_intermediate_size", "normalise_gates": "norm_topk_prob",
}  # fmt: skip
slots, copies = views.grouped, views.copies


def spec_of(config: configs.Config, names: set[str]) -> Spec:
    n_routed = config.get("num_local_experts", DEFAULTS["num_experts"])
    config = {**DEFAULTS, "num_experts": n_routed, **config}
    configs.refuse(config, {"attention_bias": (False,), "decoder_sparse_step": (1,)})
    configs.refuse_windows(config, in_use=False)
    dense = config.get("mlp_only_layers") or []
    if not isinstance(dense, list) or dense != list(range(len(dense))):
        raise WeightsError(
            f"config.json has mlp_only_layers = {dense!r}; expected the first layers or none: dense layers "
            "between routed ones are not computed here"
        )
    ffn = {"kind": "routed", "n_dense_layers": len(dense), "n_shared": 0, "scoring": "softmax"}
    ffn |= configs.renamed(config, ROUTED)
    attention = {**configs.heads(config), "qk_norm": "head"}
    return configs.spec(config, FAMILY, attention=attention, ffn=ffn, **rotary.read(config))


def config_of(spec: Spec) -> dict[str, object]:
    configs.check(spec, FAMILY, LIMITS)
    table = configs.grouped(spec, FAMILY, "Qwen3MoeForCausalLM")
    table |= configs.said(spec.ffn, ROUTED)
    table |= {"decoder_sparse_step": 1, "mlp_only_layers": list(range(spec.ffn.n_dense_layers))}
    table |= {"attention_bias": False, "use_sliding_window": False, "sliding_window": None}
    return table | rotary.write(spec)
