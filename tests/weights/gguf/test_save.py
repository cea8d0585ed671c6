"""Out and in again: exact to the bit where the type is, nothing left behind where something is wrong."""

import dataclasses

import ggufs
import pytest
import torch
from ggufs import GROUPED, LATENT, SPECS, filled
from shapes import varied

from nomoat.config import WeightsError
from nomoat.model.spec import Llama3, Yarn
from nomoat.tokenizer.bpe import train
from nomoat.weights.gguf import blocks, facts
from nomoat.weights.gguf.header import Header
from nomoat.weights.gguf.load import load
from nomoat.weights.gguf.save import kind_of, save
from nomoat.weights.gguf.vocabulary import tokenizer_of


@pytest.fixture(scope="module")
def tokenizer():
    return train(["a small text about numbers, 1 2 3"] * 4, vocab_size=300)


@pytest.mark.parametrize("name", SPECS)
def test_a_round_trip_is_exact_to_the_bit(tmp_path, name):
    model = filled(SPECS[name])
    written = save(model, tmp_path / "x.gguf")
    assert written.largest_error == 0
    assert Header.of(written.path).meta["general.architecture"] == name.partition(",")[0]
    back = load(written.path)
    assert back.spec == SPECS[name]
    assert back.state_dict().keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[key]), key


@pytest.mark.parametrize("type", ["f16", "bf16", "q8_0", "q4_0"])
@pytest.mark.parametrize("name", ["deepseek2, depth", "qwen3moe"])
def test_every_type_is_written_and_read_back(tmp_path, name, type):
    model = filled(SPECS[name])
    written = save(model, tmp_path / "x.gguf", type=type)
    assert set(written.kinds) <= {"F32", "F16", type.upper(), "Q8_0"}
    assert written.kinds[type.upper()] > 10
    with torch.no_grad():
        ids_BT = torch.arange(40)[None]
        off = (load(written.path)(ids_BT).softmax(-1) - model(ids_BT).softmax(-1)).abs().mean()
    assert off < {"q4_0": 5e-3}.get(type, 2e-3)


def test_half_precision_is_loaded_as_asked(tmp_path):
    path = save(filled(LATENT), tmp_path / "x.gguf", type="bf16").path
    model = load(path, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert {m.bias_E.dtype for m in model.modules() if hasattr(m, "bias_E")} == {torch.float32}


def test_small_matrices_and_odd_widths_keep_a_wider_type():
    assert kind_of("blk.0.attn_norm.weight", (64,), "q4_0").name == "F32"
    assert kind_of("blk.1.ffn_gate_inp.weight", (8, 64), "q4_0").name == "F32"
    assert kind_of("blk.0.attn_k_b.weight", (4, 32, 16), "q8_0").name == "F16"
    assert kind_of("token_embd.weight", (320, 64), "q4_0").name == "Q8_0"
    assert kind_of("blk.0.ffn_up.weight", (96, 64), "q4_0").name == "Q4_0"


def test_the_tokenizer_comes_back(tmp_path, tokenizer):
    path = save(filled(LATENT), tmp_path / "x.gguf", tokenizer=tokenizer).path
    assert tokenizer_of(Header.of(path)).fingerprint == tokenizer.fingerprint
    modelfile = (tmp_path / "x.gguf.Modelfile").read_text()
    assert modelfile.startswith("FROM ./x.gguf\nTEMPLATE ")
    assert modelfile.endswith('PARAMETER stop "<|eos|>"\n')


REFUSED = {
    "the two misread counts": (varied(LATENT, n_layers=26), "26 layers and a query latent"),
    "with the depth counted": (varied(LATENT, n_layers=25, n_mtp=1, n_routed=0), "25 layers and a query"),
    "two depths": (varied(LATENT, n_mtp=2), "2 extra prediction depths"),
    "another epsilon": (varied(LATENT, norm_eps=1e-5), "norm_eps = 1e-05"),
    "no shared expert": (varied(LATENT, n_shared=0), "no shared expert"),
    "groups by their best": (varied(LATENT, group_score="max"), "groups scored by their best expert"),
    "betas": (varied(LATENT, stretch=ggufs.YARN.model_copy(update={"beta_slow": 2.0})), "betas"),
    "narrow queries": (varied(GROUPED, d_head=32, d_value=32, qkv_bias=True), "4 heads of width 32"),
    "values of another width": (varied(GROUPED, d_value=8), "values of width 8"),
    "scores scaled": (varied(GROUPED, stretch=Yarn(factor=4.0, original_context=64)), "can't say stretch"),
    "another blend": (varied(GROUPED, stretch=Llama3(factor=8.0, original_context=64, high=5.0)), "Llama 3"),
    "layers without rotation": (varied(GROUPED, unrotated=(1,)), "can't say unrotated"),
    "gates as they are": (
        varied(ggufs.SPECS["qwen3moe"], normalise_gates=False),
        "can't say ffn",
    ),
    "experts in Llama": (varied(ggufs.SPECS["qwen3moe"], qk_norm=None), "expected qwen3moe or deepseek2"),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_what_llamacpp_would_compute_otherwise_is_refused_before_anything_is_written(tmp_path, why):
    spec, message = REFUSED[why]
    with pytest.raises(WeightsError, match=message):
        save(filled(spec), tmp_path / "x.gguf")
    assert not list(tmp_path.iterdir())


def test_balancing_biases_have_no_name_in_qwen3moe(tmp_path):
    model = filled(SPECS["qwen3moe"])
    model.blocks[0].ffn.bias_E[0] = 0.5
    with pytest.raises(WeightsError, match="balancing biases"):
        save(model, tmp_path / "x.gguf")


def test_what_does_not_read_back_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "x.gguf").write_bytes(b"older")
    packed = blocks.quantise
    monkeypatch.setattr(blocks, "quantise", lambda values, kind: packed(values * 1.01, kind))
    with pytest.raises(WeightsError, match="reads back with an error of 0.01"):
        save(filled(GROUPED), tmp_path / "x.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["x.gguf"]
    assert (tmp_path / "x.gguf").read_bytes() == b"older"


def test_numbers_beyond_a_type_are_told(tmp_path):
    model = filled(GROUPED)
    with torch.no_grad():
        model.blocks[0].ffn.w_down.weight[0, 0] = 1e6
    with pytest.raises(WeightsError, match="ffn_down.weight reads back with an error of (inf|nan)"):
        save(model, tmp_path / "x.gguf", type="f16")
    assert not list(tmp_path.iterdir())


def test_the_facts_of_files_of_others_are_read(tmp_path):
    """Keys as converters write them: no key-value width, an older name of a stretch, an unsplit way up."""
    path = save(filled(SPECS["llama, tied"]), tmp_path / "x.gguf").path
    header = Header.of(path)
    absent = ("attention.key_length", "attention.value_length", "rope.freq_base", "vocab_size")
    meta = {key: value for key, value in header.meta.items() if key.partition(".")[2] not in absent}
    meta["llama.rope.scale_linear"] = 2.0
    spec = facts.spec_of(dataclasses.replace(header, meta=meta))
    assert spec == varied(SPECS["llama, tied"], stretch={"kind": "linear", "factor": 2.0})
