"""Block-scaled FP8: each number within a step of e4m3, the library's own reading of it, and names as
DeepSeek's.
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from shapes import shape, varied

from nomoat.config import WeightsError
from nomoat.model.transformer import Transformer
from nomoat.weights import directory as hf
from nomoat.weights import facts, fp8
from nomoat.weights.files import WEIGHTS

SPEC = shape(
    vocab_size=64, n_layers=2, d_model=160, n_heads=2, d_nope=40, d_rope=24, d_value=80, d_kv_latent=136,
    d_q_latent=130, d_ffn=200, n_dense_layers=1, n_routed=4, n_shared=1, n_active=2, d_expert=136, n_mtp=1,
    context=64,
)  # fmt: skip


def filled(spec, seed=0) -> Transformer:
    generator = torch.Generator().manual_seed(seed)
    model = hf.empty(spec, dtype=torch.bfloat16).eval()
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5
        parameter.data.copy_(1 + 0.1 * drawn if "norm" in name else drawn)
    return model


@pytest.mark.parametrize("size", [(128, 128), (300, 130), (1, 257), (5, 3)])
def test_each_number_is_within_half_a_step(size):
    weight = torch.randn(size, generator=torch.Generator().manual_seed(1)) * 3
    numbers, scale = fp8.quantise(weight)
    assert scale.shape == fp8.blocks_of(size)
    back = fp8.multiply(numbers, scale, fp8.BLOCK)
    largest = fp8.multiply(torch.ones(size).to(numbers.dtype), scale, fp8.BLOCK) * fp8.LARGEST
    step = torch.maximum(weight.abs() / 16, largest / fp8.LARGEST * 2.0**-10)
    assert ((back - weight).abs() <= step * 1.0001).all()
    assert torch.equal(fp8.quantise(back)[0].float(), numbers.float())


def test_a_matrix_of_zeros_stays_one():
    numbers, scale = fp8.quantise(torch.zeros(130, 4))
    assert fp8.multiply(numbers, scale, fp8.BLOCK).eq(0).all()


def test_a_directory_in_fp8_has_deepseeks_names_and_is_read_as_it_was_written(tmp_path):
    model = filled(SPEC)
    hf.save(model, tmp_path, quantised=True)
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"] == fp8.CONFIG
    tensors = load_file(tmp_path / WEIGHTS)
    quantised = {name for name, tensor in tensors.items() if tensor.dtype == torch.float8_e4m3fn}
    assert {f"{name}_scale_inv" for name in quantised} == {name for name in tensors if name.endswith("_inv")}
    assert "model.layers.1.mlp.experts.3.down_proj.weight" in quantised
    assert "model.layers.0.self_attn.kv_a_proj_with_mqa.weight" in quantised
    plain = "embed_tokens", "lm_head", "norm", "mlp.gate.", "eh_proj"
    assert not [name for name in quantised if any(part in name for part in plain)]
    back = hf.load(tmp_path, dtype=torch.bfloat16)
    assert back.spec == SPEC
    matrix = model.blocks[0].ffn.w_down.weight
    expected = fp8.multiply(*fp8.quantise(matrix), fp8.BLOCK).bfloat16()
    assert torch.equal(back.blocks[0].ffn.w_down.weight, expected)
    assert torch.equal(back.depths[0].w_join.weight, model.depths[0].w_join.weight)
    told = facts.describe(tmp_path)
    assert (told.missing, told.surplus, told.misshapen) == ((), (), ())
    assert told.dtypes["float8_e4m3fn"] > told.dtypes["bfloat16"]


@pytest.mark.check
def test_transformers_multiplies_the_same_numbers(tmp_path):
    """In whole blocks: it takes the sizes of blocks from how many there are."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")  # without it transformers doesn't read FP8
    latents = {"d_kv_latent": 104, "d_value": 24, "d_q_latent": 128}
    spec = varied(SPEC, n_mtp=0, d_model=128, d_ffn=256, d_expert=128, **latents)
    hf.save(filled(spec), tmp_path, quantised=True)
    ours = hf.load(tmp_path)
    settings = transformers.FineGrainedFP8Config(dequantize=True)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=settings, dtype=torch.float32, attn_implementation="eager"
    )
    ids_BT = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(ours(ids_BT), theirs(ids_BT).logits.float(), atol=1e-4, rtol=0)


NAME = "model.layers.0.mlp.up_proj.weight"
DAMAGE = {
    "no scales": (lambda t: t.pop(f"{NAME}_scale_inv"), "float8"),
    "scales of another size": (
        lambda t: t.update({f"{NAME}_scale_inv": torch.ones(3, 3)}),
        r"expected \[2, 2\]",
    ),
    "scales without numbers": (
        lambda t: t.update({f"{NAME}x_scale_inv": torch.ones(1, 1)}),
        "1 unknown",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(tmp_path, name):
    harm, message = DAMAGE[name]
    hf.save(filled(SPEC), tmp_path, quantised=True)
    tensors = load_file(tmp_path / WEIGHTS)
    harm(tensors)
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(WeightsError, match=message):
        hf.load(tmp_path)


OTHERS = {"quant_method": "gptq"}, {"quant_method": "fp8", "weight_block_size": [128]}, {"bits": 4}, "fp8x"


@pytest.mark.parametrize("config", OTHERS, ids=str)
def test_other_ways_to_quantise_are_refused(config):
    with pytest.raises(WeightsError, match="expected 'fp8' in blocks"):
        fp8.block_of({"quantization_config": config})
