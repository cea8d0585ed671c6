"""The contract of every family, over random configurations: logits equal those of transformers in float32
within 1e-4, their directories in ours and ours in theirs; what we save and load again is the same to the bit;
decoding with a cache says what the full pass says.

A new family is one row in ROWS.
"""

import json
import math
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from nomoat.engine.generate import sample
from nomoat.model.spec import Routed
from nomoat.model.transformer import Transformer
from nomoat.weights import directory as hf
from nomoat.weights import families

transformers = pytest.importorskip("transformers")

IDS_BT = torch.randint(0, 61, (2, 72), generator=torch.Generator().manual_seed(5))
SAFE = 2e-4  # from a tie of a router; a hundred times what the two orders of summation can differ by


def rope(random: Random, kinds: str = "default linear llama3 yarn yarn") -> dict[str, Any]:
    """Rotary positions of any kind, stretched beyond an original context of 32."""
    theta, original = random.choice((100.0, 10000.0, 500000.0)), {"original_max_position_embeddings": 32}
    rope = {"rope_theta": theta, "rope_type": random.choice(kinds.split())}
    match rope["rope_type"]:
        case "linear":
            return {**rope, "factor": random.choice((2.0, 4.0))}
        case "llama3":
            return {**rope, **original, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        case "yarn":
            scales = {}, {"attention_factor": 1.3}, {"mscale": 0.7, "mscale_all_dim": 0.5}
            factor = {"factor": random.choice((4.0, 8.0)), "beta_fast": 16.0}
            return {**rope, **original, **factor, **random.choice(scales)}
    return rope


def dense(random: Random, **facts: Any) -> dict[str, Any]:
    n_kv_heads = random.choice((1, 2, 4))
    return {
        "vocab_size": 61, "hidden_size": 32, "intermediate_size": random.choice((40, 56)),
        "num_hidden_layers": random.choice((2, 3)), "num_attention_heads": 4,
        "head_dim": random.choice((8, 12)),
        "num_key_value_heads": n_kv_heads, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": random.random() < 0.5, "rope_parameters": rope(random),
        "pad_token_id": None, **facts,
    }  # fmt: skip


def routed(random: Random) -> dict[str, Any]:
    first = random.choice(([], [0]))
    return dense(
        random, num_experts=8, num_experts_per_tok=random.choice((1, 2, 3)), moe_intermediate_size=24,
        norm_topk_prob=random.random() < 0.5, mlp_only_layers=first,
    )  # fmt: skip


def unrotated(random: Random) -> dict[str, Any]:
    flags = {"no_rope_layers": [random.randrange(2) for _ in range(3)]}
    return dense(random, num_hidden_layers=3) | random.choice((flags, {"no_rope_layer_interval": 2}))


def latent(random: Random, **facts: Any) -> dict[str, Any]:
    kinds = "default yarn yarn"
    n_groups, n_active_groups = random.choice(((1, 1), (2, 1), (4, 2), (4, 3)))
    config = dense(random, rope_parameters=rope(random, kinds), num_key_value_heads=4)
    del config["head_dim"]
    return config | {
        "q_lora_rank": random.choice((None, 20)), "kv_lora_rank": 16, "qk_nope_head_dim": 12,
        "qk_rope_head_dim": 8, "v_head_dim": random.choice((10, 20)),
        "first_k_dense_replace": random.randrange(3),
        "n_routed_experts": 8, "n_shared_experts": random.choice((1, 2)), "moe_intermediate_size": 24,
        "num_experts_per_tok": random.choice((1, 2)), "n_group": n_groups, "topk_group": n_active_groups,
        "routed_scaling_factor": random.choice((1.0, 2.5)), **facts,
    }  # fmt: skip


def softmax(random: Random) -> dict[str, Any]:
    config = latent(random, norm_topk_prob=False)
    return config | {"topk_method": "greedy" if config["n_group"] == 1 else "group_limited_greedy"}


def sigmoid(random: Random) -> dict[str, Any]:
    return latent(random, norm_topk_prob=random.random() < 0.5)


def biased(random: Random) -> dict[str, Any]:
    return dense(random, attention_bias=random.random() < 0.3)


ROWS = {  # model_type -> (name in transformers, a random config.json)
    "llama": ("Llama", biased),
    "qwen2": ("Qwen2", dense),
    "qwen3": ("Qwen3", dense),
    "qwen3_moe": ("Qwen3Moe", routed),
    "smollm3": ("SmolLM3", unrotated),
    "deepseek_v2": ("DeepseekV2", softmax),
    "deepseek_v3": ("DeepseekV3", sigmoid),
    "olmo2": ("Olmo2", dense),
}
N_FAST, N_ALL = 2, 10
CASES = [
    pytest.param(name, seed, marks=[] if seed < N_FAST else [pytest.mark.check])
    for name in ROWS
    for seed in range(N_ALL)
]


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Weights, gains and biases so random that every one of them matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            drawn = torch.randn(tensor.shape, generator=generator)
            if name.endswith(("bias", "bias_E")):
                tensor.copy_(drawn * 0.3)
            elif tensor.ndim == 1:
                tensor.copy_(1 + 0.3 * drawn)
            else:
                tensor.copy_(drawn * (1.3 / math.sqrt(tensor.shape[-1])))


def gap(score: torch.Tensor, n_chosen: int) -> float:
    ranked = score.sort(descending=True).values
    if n_chosen == score.shape[-1]:
        return math.inf
    return float((ranked[:, n_chosen - 1] - ranked[:, n_chosen]).min())


@torch.no_grad()
def margin(model: Transformer) -> float:
    """How far the closest decision of any router is from a tie."""
    s, smallest = model.spec.ffn, math.inf
    if not isinstance(s, Routed):
        return smallest
    for block, routing in zip(model.blocks[s.n_dense_layers :], model.hidden(IDS_BT)[1]):
        choice_ME = routing.score_ME + block.ffn.bias_E
        if s.n_groups > 1:
            by_group = choice_ME.unflatten(1, (s.n_groups, -1))
            best = by_group.topk(2 if s.group_score == "top2" else 1, -1).values.sum(-1)
            smallest = min(smallest, gap(best, s.n_active_groups))
            choice_ME = block.ffn._limit_groups(choice_ME)
        smallest = min(smallest, gap(choice_ME, s.n_active))
    return smallest


def theirs(model_type: str, config: dict[str, Any]) -> torch.nn.Module:
    name, _ = ROWS[model_type]
    settings = getattr(transformers, f"{name}Config")(**config, attn_implementation="eager")
    return getattr(transformers, f"{name}ForCausalLM")(settings).eval()


def opened(directory: Path) -> torch.nn.Module:
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        directory, attn_implementation="eager", dtype="auto", output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "mismatched_keys", "unexpected_keys")), report
    return model.eval()


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    out = model(IDS_BT)
    return out if isinstance(out, torch.Tensor) else out.logits


def pair(model_type: str, seed: int, directory: Path) -> tuple[torch.nn.Module, Transformer]:
    """Their model with random weights, and ours from the directory that it saved."""
    _, draw = ROWS[model_type]
    model = theirs(model_type, draw(Random(f"{model_type}/{seed}")))
    for attempt in range(100):
        randomise(model, attempt)
        model.save_pretrained(directory)
        loaded = hf.load(directory)
        if margin(loaded) > SAFE:
            return model, loaded
    raise AssertionError("no seed keeps every router away from ties")


@pytest.mark.parametrize(("model_type", "seed"), CASES)
def test_logits_are_those_of_transformers_both_ways(model_type, seed, tmp_path):
    model, loaded = pair(model_type, seed, tmp_path / "theirs")
    expected = logits(model)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits(loaded), expected, atol=1e-4, rtol=0)
    hf.save(loaded, tmp_path / "ours", model_type=model_type)
    torch.testing.assert_close(logits(opened(tmp_path / "ours")), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("model_type", "seed"), CASES)
def test_what_is_saved_is_loaded_to_the_bit(model_type, seed, tmp_path):
    _, draw = ROWS[model_type]
    config = theirs(model_type, draw(Random(f"{model_type}/{seed}"))).config.to_dict()
    spec = families.family(model_type).spec_of(json.loads(json.dumps(config)), set())
    model = Transformer(spec).eval()
    randomise(model, seed)
    for module in model.modules():
        if hasattr(module, "bias_E") and spec.ffn.scoring == "softmax":
            module.bias_E.zero_()
    hf.save(model, tmp_path, model_type=model_type)
    back = hf.load(tmp_path)
    assert back.spec == spec
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[name]), name
    decoded_as_in_full(back)


@torch.no_grad()
def decoded_as_in_full(model: Transformer) -> None:
    """Each greedy choice of the cached decoder is the best, or one as good, of a pass over the whole row."""
    prompts = [IDS_BT[0, :9].tolist(), IDS_BT[1, :40].tolist()]
    drawn = sample(model, prompts, max_new_tokens=8, seed=0, stop_ids=[], greedy=True)
    for prompt, (one,) in zip(prompts, drawn):
        row = torch.tensor([prompt + one.ids_T.tolist()])
        logits_TV = model(row)[0, len(prompt) - 1 : -1]
        chosen = logits_TV.gather(1, one.ids_T[:, None])[:, 0]
        assert (logits_TV.amax(1) - chosen).max() < 1e-4
        logp = logits_TV.log_softmax(-1).gather(1, one.ids_T[:, None])[:, 0]
        torch.testing.assert_close(one.logp_T, logp, atol=1e-4, rtol=0)


def test_every_family_has_its_row():
    assert set(ROWS) == set(families.FAMILIES)
