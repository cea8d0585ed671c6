"""`deepseek_v3`: latent attention, dense or routed layers, extra prediction depths.

What the published config can't say, and so can't be written: softmax affinities, groups scored by their best
expert, experts without a shared one, grouped queries.
"""

from nomoat.model.spec import Spec
from nomoat.model.transformer import Block, Transformer
from nomoat.weights.families import configs, latent, rotary, views
from nomoat.weights.slots import Slots

FAMILY = "deepseek_v3"
BIAS = "e_score_correction_bias"
ONLY = {
    "attention_bias": (False,), "rope_interleave": (True,), "moe_layer_freq": (1,),
    "scoring_func": ("sigmoid",), "topk_method": ("noaux_tc",),
}  # fmt: skip
DEFAULTS = {
    "first_k_dense_replace": 3, "n_shared_experts": 1, "num_experts_per_tok": 8, "n_group": 8,
    "topk_group": 4, "norm_topk_prob": True, "routed_scaling_factor": 2.5, "max_position_embeddings": 4096,
}  # fmt: skip


def slots(model: Transformer) -> Slots:
    table = views.whole(model, _block)
    for i, depth in enumerate(model.depths, start=model.spec.n_layers):
        at = f"model.layers.{i}"
        table |= {
            f"{at}.enorm.weight": depth.norm_embed.weight,
            f"{at}.hnorm.weight": depth.norm_hidden.weight,
            f"{at}.eh_proj.weight": depth.w_join.weight,
            f"{at}.shared_head.norm.weight": depth.norm.weight,
        }
        table |= _block(at, depth.block)
    return table


def copies(model: Transformer) -> Slots:
    """Names under which published files repeat the embedding and the head; read, compared, never written."""
    table, spec = views.copies(model), model.spec
    for i in range(spec.n_layers, spec.n_layers + spec.n_mtp):
        table[f"model.layers.{i}.embed_tokens.weight"] = model.embed.weight
        table[f"model.layers.{i}.shared_head.head.weight"] = model.head.weight
    return table


def _block(at: str, layer: Block) -> views.Views:
    return latent.block(at, layer, BIAS)


def spec_of(config: configs.Config, names: set[str]) -> Spec:
    """With the extra depths that the config promises, if their tensors are there."""
    config = {**DEFAULTS, **config}
    configs.refuse(config, ONLY)
    configs.refuse_windows(config, in_use=True)
    n_mtp = config.get("num_nextn_predict_layers", config.get("num_mtp_layers", 0))
    first = f"model.layers.{configs.number(config, 'num_hidden_layers', 0)}."
    if not any(name.startswith(first) for name in names):
        n_mtp = 0
    parts = latent.parts_of(config) | rotary.read(config, scores=True)
    return configs.spec(config, FAMILY, n_mtp=n_mtp, **parts)


def config_of(spec: Spec) -> dict[str, object]:
    """As transformers' DeepseekV3Config reads it."""
    configs.check(spec, FAMILY, latent.LIMITS)
    latent.check_experts(spec, FAMILY, {"ffn.scoring": ("sigmoid",), "ffn.group_score": ("top2",)})
    table = latent.config_of(spec, FAMILY, "DeepseekV3ForCausalLM")
    table |= {key: values[0] for key, values in ONLY.items()}
    return table | {"num_nextn_predict_layers": spec.n_mtp} | rotary.write(spec, scores=True)
