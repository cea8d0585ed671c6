"""What a config.json asks beyond our model is refused with the reason, and so is what a family can't say."""

import pytest
from shapes import shape, varied

from nomoat.config import WeightsError
from nomoat.weights import families
from nomoat.weights.families import configs

BASE = {
    "vocab_size": 9, "hidden_size": 32, "intermediate_size": 8, "num_hidden_layers": 3,
    "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
LATENT = {
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "kv_lora_rank": 8, "n_routed_experts": 4,
    "moe_intermediate_size": 8, "num_experts_per_tok": 1, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1,
}  # fmt: skip
REFUSED = [
    ("llama", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    ("llama", {"mlp_bias": True}, "mlp_bias"),
    ("llama", {"sliding_window": 64}, "sliding windows"),
    ("llama", {"final_logit_softcapping": 30.0}, "softcapping"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("llama", {"num_key_value_heads": 3}, "n_kv_heads"),
    ("llama", {"head_dim": 7}, "d_head"),
    ("llama", {"num_attention_heads": "2"}, "num_attention_heads"),
    ("llama", {"num_attention_heads": 0}, "n_heads"),
    ("llama", {"tie_word_embeddings": "yes"}, "tied"),
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 2}, "sliding windows"),
    ("qwen2", {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "sliding windows"),
    ("qwen3", {"attention_bias": True}, "attention_bias"),
    ("qwen3_moe", {"mlp_only_layers": [1]}, "mlp_only_layers"),
    ("qwen3_moe", {"decoder_sparse_step": 2}, "decoder_sparse_step"),
    ("qwen3_moe", {"use_sliding_window": True}, "sliding windows"),
    ("smollm3", {"use_sliding_window": True, "sliding_window": 64}, "sliding windows"),
    ("smollm3", {"no_rope_layers": 4}, "no_rope_layers"),
    ("olmo2", {"attention_bias": True}, "attention_bias"),
    ("olmo2", {"clip_qkv": 8.0}, "clip_qkv"),
    ("deepseek_v2", {**LATENT, "norm_topk_prob": True}, "norm_topk_prob"),
    ("deepseek_v2", {**LATENT, "topk_method": "noaux_tc"}, "topk_method"),
    ("deepseek_v2", {**LATENT, "num_key_value_heads": 1}, "num_key_value_heads is 1"),
    ("deepseek_v3", {**LATENT, "rope_interleave": False}, "rope_interleave"),
    ("deepseek_v3", {**LATENT, "scoring_func": "softmax"}, "scoring_func"),
]


@pytest.mark.parametrize(("model_type", "change", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_not_computed_is_refused_with_the_reason(model_type, change, message):
    with pytest.raises(WeightsError, match=message):
        families.family(model_type).spec_of({**BASE, **change}, set())


HARMLESS = [
    ("llama", {"sliding_window": None, "hidden_act": "swish", "pretraining_tp": 2}),
    ("qwen2", {"sliding_window": 64, "use_sliding_window": False}),
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 3}),
    ("qwen3", {"layer_types": ["full_attention"] * 3}),
    ("qwen3_moe", {"mlp_only_layers": None}),
    ("deepseek_v3", {**LATENT, "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"}}),
    ("deepseek_v2", {**LATENT, "n_group": None, "topk_group": None}),
]


@pytest.mark.parametrize(("model_type", "change"), HARMLESS, ids=lambda value: str(value)[:40])
def test_what_changes_nothing_is_read(model_type, change):
    families.family(model_type).spec_of({**BASE, **change}, set())


def test_an_unknown_architecture_is_named_and_its_code_never_run():
    config = {
        "model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "auto_map": {"AutoConfig": "evil.Config"},
    }  # fmt: skip
    with pytest.raises(WeightsError, match=r"(?s)'phi3'.*Phi3ForCausalLM.*never run.*llama.*olmo2"):
        families.of_config(config)
    for model_type in (None, 3, ["llama"], {}):
        with pytest.raises(WeightsError, match="expected one of"):
            families.of_config({"model_type": model_type})


GROUPED = shape(vocab_size=9, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, d_head=8, d_ffn=8)
ROUTED = shape(
    vocab_size=9, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, d_head=8, d_ffn=8, n_routed=4, n_shared=0,
    n_active=1, d_expert=8, scoring="softmax",
)  # fmt: skip
OF_LATENTS = shape(
    vocab_size=9, n_layers=2, d_model=32, n_heads=4, d_nope=8, d_rope=4, d_value=8, d_kv_latent=8, d_ffn=8,
    n_routed=4, n_shared=1, n_active=1, d_expert=8,
)  # fmt: skip
SAID = [
    (GROUPED, "llama"),
    (varied(GROUPED, qkv_bias=True, out_bias=True), "llama"),
    (varied(GROUPED, qkv_bias=True), "qwen2"),
    (varied(GROUPED, qk_norm="head"), "qwen3"),
    (varied(ROUTED, qk_norm="head"), "qwen3_moe"),
    (varied(GROUPED, unrotated=(1,)), "smollm3"),
    (varied(GROUPED, qk_norm="whole", norm_place="after"), "olmo2"),
    (OF_LATENTS, "deepseek_v3"),
    (varied(OF_LATENTS, scoring="softmax", group_score="max", normalise_gates=False), "deepseek_v2"),
    (varied(OF_LATENTS, n_routed=0), "deepseek_v3"),
]


@pytest.mark.parametrize(("spec", "model_type"), SAID, ids=[name for _, name in SAID])
def test_a_model_is_written_in_the_first_family_that_can_say_it(spec, model_type):
    assert families.chosen(spec) == model_type
    family = families.family(model_type)
    assert family.spec_of(family.config_of(spec), {"model.layers.2."}) == spec


UNSAID = [
    varied(GROUPED, d_value=4),
    varied(GROUPED, qk_norm="head", unrotated=(0,)),
    varied(GROUPED, out_bias=True),
    varied(GROUPED, norm_place="after"),
    varied(GROUPED, n_mtp=1),
    ROUTED,
    varied(OF_LATENTS, n_shared=0),
    varied(OF_LATENTS, scoring="softmax"),
    varied(OF_LATENTS, norm_place="after"),
]


@pytest.mark.parametrize("spec", UNSAID)
def test_a_model_that_no_family_can_say_hears_every_reason(spec):
    with pytest.raises(WeightsError, match="can't say") as error:
        families.chosen(spec)
    assert all(f"  {model_type}: " in str(error.value) for model_type in families.FAMILIES)


def test_numbers_are_numbers():
    assert configs.number({"a": None}, "a", 3) == 3
    for value in (True, "1", [1]):
        with pytest.raises(WeightsError, match="expected a number"):
            configs.number({"a": value}, "a", 3)
