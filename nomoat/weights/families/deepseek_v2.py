"""`deepseek_v2`: DeepSeek-V2 and V2-Lite: latent attention, experts behind softmax affinities.

Groups are scored by their best expert; gates are never normalised, whatever `norm_topk_prob` says, in
transformers, so that a config which asks for it is refused.
"""

from nomoat.config import WeightsError
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer
from nomoat.weights.families import configs, latent, rotary, views
from nomoat.weights.slots import Slots

FAMILY = "deepseek_v2"
ONLY = {
    "attention_bias": (False,), "moe_layer_freq": (1,), "scoring_func": ("softmax",),
    "norm_topk_prob": (False,), "topk_method": ("greedy", "group_limited_greedy"),
}  # fmt: skip
DEFAULTS = {
    "first_k_dense_replace": 0, "n_shared_experts": 2, "norm_topk_prob": False, "routed_scaling_factor": 1.0,
    "max_position_embeddings": 2048, "n_routed_experts": 64, "topk_method": "greedy",
}  # fmt: skip
EXPERTS = {
    "ffn.scoring": ("softmax",), "ffn.group_score": ("max",), "ffn.normalise_gates": (False,),
}  # fmt: skip
copies = views.copies


def slots(model: Transformer) -> Slots:
    return views.whole(model, latent.block)


def spec_of(config: configs.Config, names: set[str]) -> Spec:
    config = {**DEFAULTS, **config}
    configs.refuse(config, ONLY)
    configs.refuse_windows(config, in_use=True)
    if config["topk_method"] == "greedy":  # groups are not looked at
        config |= {"n_group": 1, "topk_group": 1}
    facts = {"scoring": "softmax", "group_score": "max", "normalise_gates": False}
    parts = latent.parts_of(config, **facts) | rotary.read(config, scores=True)
    return configs.spec(config, FAMILY, **parts)


def config_of(spec: Spec) -> dict[str, object]:
    configs.check(spec, FAMILY, {**latent.LIMITS, "n_mtp": (0,)})
    latent.check_experts(spec, FAMILY, EXPERTS)
    if spec.d_model % spec.attention.n_heads:
        raise WeightsError(
            f"the model has d_model = {spec.d_model} and n_heads = {spec.attention.n_heads}, which "
            "deepseek_v2 can't say; expected n_heads to divide d_model; train with that"
        )
    table = latent.config_of(spec, FAMILY, "DeepseekV2ForCausalLM")
    table |= {"scoring_func": "softmax", "norm_topk_prob": False, "mlp_bias": False}
    grouped = table["n_group"] > 1
    table["topk_method"] = "group_limited_greedy" if grouped else "greedy"
    return table | rotary.write(spec, scores=True)
