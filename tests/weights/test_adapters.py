"""Adapters beside their base and merged into it, in our names and in published ones."""

import json

import pytest
import torch
from adapting import DEEPSEEK, IDS, LLAMA, SHAPES, SOME, beside, learnt, toy
from safetensors.torch import load_file, save_file
from shapes import built

from nomoat.config import ConfigError, WeightsError
from nomoat.model.lora import Lora, Merged, Pair, adapted, attach, without
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.weights import adapters, directory, peft


@SHAPES
def test_a_new_adapter_changes_nothing_and_learns_alone(spec):
    model = toy(spec)
    fresh = attach(without(model), adapters.new_parts(model, Lora(rank=2), 0))
    torch.testing.assert_close(fresh(IDS), model(IDS))
    fresh(IDS).sum().backward()
    learns = {name for name, p in fresh.named_parameters() if p.requires_grad}
    assert learns == {name for name, p in fresh.named_parameters() if p.grad is not None}
    assert learns
    assert all(".up." in name or ".down." in name for name in learns)
    n_matrices = len(adapters.places(model))
    assert len(learns) == 2 * n_matrices


@SHAPES
@pytest.mark.parametrize("targets", [None, SOME], ids=["all", "some"])
def test_merged_equals_beside_equals_the_published_matrices_added(spec, targets, tmp_path):
    model = toy(spec)
    pairs = learnt(model, targets)
    expected = beside(model, pairs)(IDS)
    assert (expected - model(IDS)).abs().max() > 0.05
    directory.save(model, tmp_path / "base")
    file = tmp_path / "base" / "model.safetensors"
    tensors = load_file(file)
    for name, pair in pairs.items():  # the other way round: by name, in the file, where rows are published
        tensors[f"{name}.weight"] += pair.scale * pair.up @ pair.down
    save_file(tensors, file)
    torch.testing.assert_close(directory.load(tmp_path / "base")(IDS), expected, atol=2e-4, rtol=1e-4)
    peft.save(tmp_path / "adapter", pairs, "base", routed=spec is DEEPSEEK)
    n, gap = peft.apply(model, peft.opened(tmp_path / "adapter"))
    assert n == len(pairs)
    assert gap < 1e-4
    torch.testing.assert_close(model(IDS), expected, atol=2e-4, rtol=1e-4)


@SHAPES
def test_switched_off_it_is_the_base_on_the_same_numbers(spec):
    model = toy(spec)
    before = model(IDS)
    trained = beside(model, learnt(model))
    off = without(trained)
    torch.testing.assert_close(off(IDS), before, atol=0, rtol=0)
    assert off.embed.weight.data_ptr() == model.embed.weight.data_ptr()
    assert not [*adapted(off)]


@SHAPES
@pytest.mark.parametrize(
    ("dtype", "mean", "most"), [(torch.float32, 1e-5, 1e-4), (torch.bfloat16, 0.05, 1.0)], ids=str
)
def test_the_merged_sampler_and_the_trainer_agree_in_log_probabilities(spec, dtype, mean, most):
    model = toy(spec)
    trained = beside(model, learnt(model)).to(dtype)
    optimizer = Optimizer(trained.requires_grad_(True), OptimConfig())
    merged = Merged(trained, optimizer.master)
    gap = (merged.policy(IDS).log_softmax(-1) - trained(IDS).log_softmax(-1)).abs()
    assert gap.mean() < mean
    assert gap.max() < most
    before = merged.policy(IDS)
    for name, master in optimizer.master.items():
        master.mul_(2 if ".up." in name else 1)  # as an update would
    assert torch.equal(merged.policy(IDS), before)
    merged.renew()
    assert (merged.policy(IDS) - before).abs().max() > 0.05


def test_what_was_learnt_comes_back_under_its_published_name():
    model = toy(DEEPSEEK)
    pairs = learnt(model)
    back = adapters.of_model(beside(model, pairs))
    assert list(back) == list(pairs)
    for name, pair in pairs.items():
        assert torch.equal(back[name].up, pair.up)
        assert torch.equal(back[name].down, pair.down)


def test_two_adapters_in_a_row_are_one_with_both_ranks(tmp_path):
    model = toy(LLAMA)
    first, second = learnt(model, None, 2, 1), learnt(model, SOME, 3, 2)
    both = adapters.summed(first, second)
    peft.save(tmp_path, both, "base", routed=False)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["rank_pattern"]
    one = peft.opened(tmp_path).pairs()
    stepwise = toy(LLAMA)
    for pairs in (first, second):
        adapters.merged(stepwise, adapters.ours(adapters.places(stepwise), pairs))
    torch.testing.assert_close(beside(model, one)(IDS), stepwise(IDS), atol=2e-4, rtol=1e-4)


def written(path, **config):
    model = toy(LLAMA)
    peft.save(path, learnt(model), "base", routed=False)
    file = path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return path / "adapter_model.safetensors"


def spoil(path, name):
    file = written(path, **({"target_modules": ["q_proj", "gate_proj"]} if name == "lacks" else {}))
    tensors = load_file(file)
    if name == "embedding":
        tensors["base_model.model.model.embed_tokens.lora_embedding_A"] = torch.zeros(3, 40)
    elif name == "half":
        del tensors[next(iter(tensors))]
    elif name == "lacks":
        tensors = {key: tensor for key, tensor in tensors.items() if "gate_proj" not in key}
    elif name == "bare":
        tensors = {key.removeprefix("base_model.model."): tensor for key, tensor in tensors.items()}
    elif name == "nan":
        tensors[next(iter(tensors))][0, 0] = float("nan")
    save_file(tensors, file)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("embedding", "1 of 29 tensors are no pair of a matrix .*embed_tokens.lora_embedding_A"),
        ("half", "1 of 27 tensors are no pair"),
        ("bare", "28 of 28 tensors are no pair"),
        ("lacks", "names 4 matrices of the base model, and 2 have no tensors .*gate_proj"),
        ("nan", "holds numbers that are not finite"),
    ],
)
def test_what_is_left_over_is_refused(tmp_path, name, complaint):
    spoil(tmp_path, name)
    with pytest.raises(WeightsError, match=complaint):
        peft.apply(toy(LLAMA), peft.opened(tmp_path))


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"use_dora": True}, "use_dora = True; expected False"),
        ({"peft_type": "IA3"}, "peft_type = 'IA3'; expected 'LORA'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"r": 7}, "has rank 3, and adapter_config.json says 7"),
    ],
)
def test_what_isnt_computed_is_refused(tmp_path, config, complaint):
    written(tmp_path, **config)
    with pytest.raises(WeightsError, match=complaint):
        peft.apply(toy(LLAMA), peft.opened(tmp_path))


@pytest.mark.parametrize(
    ("change", "complaint"), [("n_layers", "are none of the base"), ("d_model", "another base")]
)
def test_an_adapter_of_another_base_is_refused(tmp_path, change, complaint):
    written(tmp_path)
    other = built(LLAMA, **{change: {"n_layers": 1, "d_model": 24}[change]})
    with pytest.raises(WeightsError, match=complaint):
        peft.opened(tmp_path).match(adapters.places(other))


def test_a_target_that_is_no_matrix_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match="has 'q_porj', which is no matrix.*did you mean `q_proj`"):
        adapters.new_parts(toy(LLAMA), Lora(targets=("q_porj",)), 0)


def test_scale_is_alpha_over_rank_or_its_root(tmp_path):
    written(tmp_path, use_rslora=True, lora_alpha=3)
    scales = {pair.scale for pair in peft.opened(tmp_path).pairs().values()}
    assert scales == {3 / 3**0.5}
    assert Pair(torch.ones(1, 2), torch.ones(2, 1), 0.5).delta().tolist() == [[0.5, 0.5]] * 2
