"""Facts are told from headers alone: equal to those of the loaded model, also of files whose tensors aren't
there to be read.
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from shapes import shape

from nomoat.config import WeightsError
from nomoat.model import counts
from nomoat.model.spec import PRESETS, Spec
from nomoat.model.transformer import Transformer
from nomoat.weights import directory as hf
from nomoat.weights import facts, fp8, header, slots
from nomoat.weights.families import chosen, family
from nomoat.weights.files import WEIGHTS

SPEC = shape(
    vocab_size=61, n_layers=2, d_model=32, n_heads=4, d_nope=8, d_rope=4, d_value=8, d_kv_latent=16, d_ffn=48,
    n_dense_layers=1, n_routed=4, n_shared=1, n_active=2, d_expert=16, context=64,
)  # fmt: skip


def test_facts_are_those_of_the_loaded_model(tmp_path):
    hf.save(hf.empty(SPEC, dtype=torch.bfloat16).initialise(1), tmp_path, shard_bytes=9000)
    told, model = facts.describe(tmp_path), hf.load(tmp_path)
    assert (told.family, told.spec) == ("deepseek_v3", model.spec)
    n_numbers = sum(t.numel() for t in model.state_dict().values())
    assert told.parameters == n_numbers == sum(told.dtypes.values())
    assert told.active == counts.params_active(SPEC) < told.parameters
    router = model.blocks[1].ffn
    assert told.dtypes["float32"] == router.w_router.weight.numel() + router.bias_E.numel()
    assert told.n_shards == len(list(tmp_path.glob("*.safetensors"))) > 1
    assert (told.missing, told.surplus, told.misshapen) == ((), (), ())


def test_tensors_that_differ_are_told_and_no_error(tmp_path):
    hf.save(hf.empty(SPEC).initialise(1), tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    tensors["more"] = tensors.pop("model.norm.weight")
    tensors["lm_head.weight"] = torch.ones(3, 3)
    save_file(tensors, tmp_path / WEIGHTS)
    told = facts.describe(tmp_path)
    assert told.missing == ("model.norm.weight",)
    assert told.surplus == ("more",)
    assert told.misshapen == ("lm_head.weight",)


def sparse(spec: Spec, directory, *, quantised: bool) -> int:
    """A directory whose weights are a header and a hole of their size, in bytes."""
    names = family(chosen(spec))
    with torch.device("meta"):
        model = Transformer(spec).to(torch.bfloat16)
    tensors = slots.outgoing(names.slots(model))
    config = names.config_of(spec)
    if quantised:
        tensors, config = fp8.outgoing(tensors), {**config, "quantization_config": fp8.CONFIG}
    begin = next(header.file_of(tensors))
    n_bytes = sum(tensor.n_bytes for tensor in tensors.values())
    with open(directory / WEIGHTS, "wb") as file:
        file.write(begin)
        file.truncate(len(begin) + n_bytes)
    (directory / "config.json").write_text(json.dumps(config))
    return n_bytes


@pytest.mark.parametrize(
    ("preset", "quantised"),
    [("deepseek-v2-lite", False), pytest.param("deepseek-v3", True, marks=pytest.mark.check)],
)
def test_models_larger_than_this_machine_are_described(tmp_path, preset, quantised):
    spec = PRESETS[preset]
    n_bytes = sparse(spec, tmp_path, quantised=quantised)
    told = facts.describe(tmp_path)
    assert told.n_bytes == n_bytes > 20e9
    assert told.parameters == counts.params_total(spec)
    assert (told.missing, told.surplus, told.misshapen) == ((), (), ())
    assert told.spec == spec


def test_what_no_loader_reads_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match=r"no .*config\.json"):
        facts.describe(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(WeightsError, match="'mamba'"):
        facts.describe(tmp_path)
