"""Logits equal `transformers`' DeepseekV3ForCausalLM, their weights in ours and ours in theirs."""

import json
import math

import pytest
import torch
from shapes import built, shape, varied

from nomoat.model.spec import Spec, Yarn
from nomoat.model.transformer import Transformer
from nomoat.weights import directory as hf
from nomoat.weights.families import deepseek_v3 as deepseek

transformers = pytest.importorskip("transformers")

BASE = shape(
    vocab_size=97, n_layers=3, d_model=48, n_heads=3, d_nope=12, d_rope=8, d_value=10, d_kv_latent=20,
    d_ffn=56, n_dense_layers=1, n_routed=8, n_shared=1, n_active=3, d_expert=24, context=256,
)  # fmt: skip
STRETCH = Yarn(factor=8.0, original_context=32)
CHANGES = {  # every option of the architecture, at least once each way
    "plain": {},
    "query latent": {"d_q_latent": 28},
    "groups": {"n_groups": 4, "n_active_groups": 2},
    "groups, query latent, two shared": {
        "n_groups": 4,
        "n_active_groups": 3,
        "d_q_latent": 28,
        "n_shared": 2,
    },
    "gates not normalised": {"normalise_gates": False, "routed_scale": 1.0},
    "routed scale": {"routed_scale": 2.5},
    "no dense layer": {"n_dense_layers": 0, "n_shared": 2},
    "two dense layers": {"n_dense_layers": 2, "tied": True},
    "dense": {"n_routed": 0},
    "dense, tied, YaRN": {"n_routed": 0, "tied": True, "stretch": STRETCH},
    "YaRN": {"stretch": STRETCH, "rope_theta": 50000.0},
    "YaRN of V2": {
        "stretch": Yarn(factor=8.0, original_context=32, mscale=0.707, mscale_all_dim=0.707),
        "n_groups": 2,
    },
    "YaRN, unequal scales": {
        "stretch": Yarn(factor=8.0, original_context=32, mscale=1.0, mscale_all_dim=0.5)
    },
    "YaRN, turn scale only": {
        "stretch": Yarn(factor=8.0, original_context=32, mscale=0.7, mscale_all_dim=0.0)
    },
    "YaRN, softmax scale only": {
        "stretch": Yarn(factor=8.0, original_context=32, mscale=0.0, mscale_all_dim=0.9)
    },
    "YaRN, other ramp": {
        "stretch": Yarn(factor=4.0, original_context=64, beta_fast=8.0, beta_slow=0.5),
        "n_heads": 2,
    },
    "wide value heads": {"d_value": 28, "d_q_latent": 16},
    "V3 in small": {
        "d_q_latent": 24,
        "n_groups": 4,
        "n_active_groups": 2,
        "routed_scale": 2.5,
        "stretch": STRETCH,
        "n_mtp": 1,
        "d_value": 16,
        "norm_eps": 0.05,
    },
}
# Beyond every original context.
IDS_BT = torch.randint(0, 97, (2, 80), generator=torch.Generator().manual_seed(5))


SAFE = 2e-4  # a hundred times what the two orders of summation can differ by


def changed(change: dict) -> Spec:
    return varied(BASE, **change)


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Weights, norms and routing biases so random that every option matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith(("bias_E", "e_score_correction_bias")):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
            elif tensor.ndim == 1:
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            else:
                tensor.copy_(
                    torch.randn(tensor.shape, generator=generator) * (1.3 / math.sqrt(tensor.shape[-1]))
                )


@torch.no_grad()
def margin(model: Transformer) -> float:
    """How far the closest decision of any router is from a tie."""
    smallest, s = math.inf, model.spec.ffn
    for block, routing in zip(model.blocks[model.spec.n_dense_layers :], model.hidden(IDS_BT)[1]):
        choice_ME = routing.score_ME + block.ffn.bias_E
        if s.n_groups > 1:
            score = choice_ME.unflatten(1, (s.n_groups, -1)).topk(2, -1).values.sum(-1).sort(descending=True)
            if s.n_active_groups < s.n_groups:
                smallest = min(smallest, -score.values.diff()[:, s.n_active_groups - 1].max().item())
            choice_ME = block.ffn._limit_groups(choice_ME)
        ranked = choice_ME.sort(descending=True).values
        smallest = min(smallest, (ranked[:, s.n_active - 1] - ranked[:, s.n_active]).min().item())
    return smallest


def ours(spec: Spec) -> Transformer:
    model = Transformer(spec).eval()
    for seed in range(100):
        randomise(model, seed)
        if margin(model) > SAFE:
            return model
    raise AssertionError("no seed keeps every router away from ties")


def theirs(directory):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        directory,
        trust_remote_code=False,
        attn_implementation="eager",
        dtype="auto",
        output_loading_info=True,
    )
    assert type(model) is transformers.DeepseekV3ForCausalLM
    assert not report["missing_keys"], report
    assert not report["mismatched_keys"], report
    further = f"model.layers.{model.config.num_hidden_layers}."  # depths, which they don't train
    assert all(key.startswith(further) for key in report["unexpected_keys"]), report
    return model.eval()


@torch.no_grad()
def logits(model) -> torch.Tensor:
    out = model(IDS_BT)
    return out if isinstance(out, torch.Tensor) else out.logits


@pytest.mark.parametrize("name", CHANGES)
def test_our_weights_in_theirs(name, tmp_path):
    model = ours(changed(CHANGES[name]))
    hf.save(model, tmp_path)
    torch.testing.assert_close(logits(theirs(tmp_path)), logits(model), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", CHANGES)
def test_their_weights_in_ours(name, tmp_path):
    spec = changed(CHANGES[name])
    config = deepseek.config_of(spec)
    for key in ("architectures", "model_type", "rope_parameters"):
        config.pop(key)
    model = transformers.DeepseekV3ForCausalLM(
        transformers.DeepseekV3Config(**config, attn_implementation="eager")
    )
    for seed in range(100):
        randomise(model.eval(), seed)
        model.save_pretrained(tmp_path)
        loaded = hf.load(tmp_path)
        if margin(loaded) > SAFE:
            break
    assert "rope_scaling" not in json.loads(
        (tmp_path / "config.json").read_text()
    )  # the newer spelling alone
    assert loaded.spec == varied(spec, n_mtp=0)  # they keep no extra depths
    for experts in ("sorted", "wide") if spec.n_moe_layers else ("sorted",):
        twin = built(loaded.spec, experts=experts).eval()
        twin.load_state_dict(loaded.state_dict())
        torch.testing.assert_close(logits(twin), logits(model), atol=1e-4, rtol=0)


MUTATIONS = {  # an option flipped on the same weights: what a reader that ignored it would compute
    "n_groups": 2,
    "n_active_groups": 4,
    "n_active": 2,
    "normalise_gates": False,
    "routed_scale": 1.0,
    "rope_theta": 500.0,
    "norm_eps": 1e-6,
    "stretch": None,
    "factor": 4.0,
    "original_context": 64,
    "beta_fast": 1.5,
    "beta_slow": 0.25,
    "mscale": 0.5,
    "mscale_all_dim": 0.5,
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_no_option_can_be_ignored(name):
    """The comparison above would notice: each option moves the logits by a hundred times its tolerance."""
    spec = changed({**CHANGES["V3 in small"], "n_mtp": 0, "rope_theta": 100.0})
    model, value = ours(spec), MUTATIONS[name]
    if name in Yarn.model_fields:
        wrong = varied(spec, stretch=spec.stretch.model_copy(update={name: value}))
    else:
        wrong = varied(spec, **{name: value})
    mutant = Transformer(wrong).eval()
    mutant.load_state_dict(model.state_dict())
    assert (logits(mutant) - logits(model)).abs().max() > 1e-2


@torch.no_grad()
def test_no_tensor_can_be_ignored():
    model = ours(changed({**CHANGES["V3 in small"], "n_mtp": 0, "n_shared": 2}))
    before = logits(model)
    for name, slot in deepseek.slots(model).items():
        kept = slot.clone()
        slot.copy_(slot.flip(0))
        assert (logits(model) - before).abs().max() > 1e-2, name
        slot.copy_(kept)
    assert torch.equal(logits(model), before)
