"""No config.json, however wrong, is more than a WeightsError: no other exception, no memory, no minutes."""

import json
from random import Random

import pytest
from shapes import shape, varied

from nomoat.config import WeightsError
from nomoat.weights import directory as hf
from nomoat.weights import facts

GROUPED = shape(
    vocab_size=61, n_layers=2, d_model=16, n_heads=2, n_kv_heads=1, d_head=8, d_ffn=16, context=64
)  # fmt: skip
ROUTED = shape(
    vocab_size=61, n_layers=2, d_model=16, n_heads=2, n_kv_heads=1, d_head=8, d_ffn=16, context=64,
    n_routed=4, n_shared=0, n_active=1, d_expert=8, scoring="softmax", qk_norm="head",
)  # fmt: skip
LATENT = shape(
    vocab_size=61, n_layers=2, d_model=16, n_heads=2, d_nope=4, d_rope=4, d_value=4, d_kv_latent=8, d_ffn=16,
    context=64, n_routed=4, n_shared=1, n_active=1, d_expert=8, n_mtp=1,
)  # fmt: skip
SPECS = {
    "deepseek_v3": LATENT,
    "deepseek_v2": varied(LATENT, n_mtp=0, scoring="softmax", normalise_gates=False, group_score="max"),
    "llama": GROUPED,
    "qwen2": varied(GROUPED, qkv_bias=True),
    "qwen3": varied(GROUPED, qk_norm="head"),
    "qwen3_moe": ROUTED,
    "smollm3": varied(GROUPED, unrotated=(0,)),
    "olmo2": varied(GROUPED, qk_norm="whole", norm_place="after"),
}
VALUES = [
    None, True, False, 0, -1, 1, 3, 10**9, 10**18, 10**400, 0.5, 1e308, float("inf"), float("nan"), "", "8",
    "yarn", [], [0], [[]], ["full_attention"], {}, {"a": 1}, {"rope_type": "yarn"}, {"type": "linear"},
    {"rope_type": "llama3", "factor": 1e308}, {"type": "yarn", "factor": 4, "mscale": "x"},
    {"rope_type": "yarn", "factor": 10**400, "original_max_position_embeddings": 0}, {"quant_method": []},
]  # fmt: skip
MORE = [
    "layer_types", "use_sliding_window", "sliding_window", "quantization_config", "dtype", "torch_dtype",
    "num_local_experts", "partial_rotary_factor", "no_rope_layer_interval", "num_mtp_layers", "rope_scaling",
]  # fmt: skip


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    places = {}
    for family, spec in SPECS.items():
        places[family] = tmp_path_factory.mktemp(family)
        hf.save(hf.empty(spec).initialise(1), places[family], model_type=family)
    return places


@pytest.mark.parametrize("family", SPECS)
@pytest.mark.parametrize("n", [40, pytest.param(1000, marks=pytest.mark.check)])
def test_a_wrong_config_is_a_clear_error_or_a_model(family, n, directories):
    path = directories[family] / "config.json"
    whole = path.read_text()
    random, n_refused = Random(f"{family}/{n}"), 0
    for _ in range(n):
        config = json.loads(whole)
        for key in random.choices([*config, *MORE], k=random.randint(1, 2)):
            config[key] = random.choice(VALUES)
        path.write_text(json.dumps(config))
        for read in (facts.describe, hf.load):
            try:
                read(directories[family])
            except WeightsError:
                n_refused += 1
    path.write_text(whole)
    assert n_refused > n // 4
