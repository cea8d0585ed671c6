"""Rotary positions are read from either spelling as transformers reads them, also with both in one file, and
what can't be computed is refused.
"""

import json

import pytest
import torch

from nomoat.config import WeightsError
from nomoat.model.rope import frequencies
from nomoat.model.spec import Llama3, Yarn
from nomoat.weights.families import llama, rotary, smollm3

transformers = pytest.importorskip("transformers")

BASE = {
    "vocab_size": 9, "hidden_size": 32, "intermediate_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
LINEAR = {"type": "linear", "factor": 2.0}
NEWER = {"rope_type": "default", "rope_theta": 10.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
SPELLINGS = {
    "nothing": {},
    "theta alone": {"rope_theta": 777.0},
    "newer": {"rope_parameters": NEWER},
    "newer, theta outside": {"rope_theta": 777.0, "rope_parameters": {"rope_type": "default"}},
    "theta in both": {"rope_theta": 777.0, "rope_parameters": NEWER},
    "null beside newer": {"rope_theta": 777.0, "rope_scaling": None, "rope_parameters": NEWER},
    "older": {"rope_theta": 777.0, "rope_scaling": LINEAR},
    "older beside newer": {"rope_theta": 777.0, "rope_scaling": LINEAR, "rope_parameters": NEWER},
    "older without theta beside newer": {"rope_scaling": LINEAR, "rope_parameters": NEWER},
    "older with theta inside": {"rope_theta": 777.0, "rope_scaling": {**LINEAR, "rope_theta": 5.0}},
    "both types": {"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 3.0}},
    "Llama 3": {"rope_theta": 5e5, "rope_scaling": LLAMA3},
    "Llama 3, newer": {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}},
    "YaRN": {"rope_theta": 1e4, "rope_scaling": YARN},
    "YaRN, attention factor": {"rope_scaling": {**YARN, "attention_factor": 1.5}},
    "YaRN, two scales": {"rope_scaling": {**YARN, "mscale": 0.8, "mscale_all_dim": 0.4}},
    "YaRN, betas": {"rope_scaling": {**YARN, "beta_fast": 16, "beta_slow": 2}},
    "YaRN, betas of zero": {"rope_scaling": {**YARN, "beta_fast": 0, "beta_slow": 0}},
    "YaRN, original outside": {"rope_scaling": YARN, "original_max_position_embeddings": 64},
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_each_spelling_gives_the_angles_of_transformers(name, tmp_path):
    config = {"model_type": "llama", **BASE, **json.loads(json.dumps(SPELLINGS[name]))}
    (tmp_path / "config.json").write_text(json.dumps(config))
    settings = transformers.AutoConfig.from_pretrained(tmp_path)
    theirs = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(settings)
    spec = llama.spec_of(config, set())
    torch.testing.assert_close(frequencies(spec), theirs.inv_freq, rtol=2e-6, atol=0)
    assert spec.turn_scale == pytest.approx(theirs.attention_scaling, rel=1e-9)
    assert spec.softmax_scale == pytest.approx(16**-0.5)
    written = llama.config_of(spec)
    assert llama.spec_of(json.loads(json.dumps(written)), set()) == spec
    for left_out in ("rope_parameters", "rope_scaling"):
        alone = {key: value for key, value in written.items() if key != left_out}
        assert llama.spec_of(alone, set()) == spec


def test_the_base_of_a_family_that_names_none_is_its_own():
    assert smollm3.spec_of({**BASE, "num_key_value_heads": 1}, set()).rope_theta == 2_000_000
    assert llama.spec_of(BASE, set()).rope_theta == 10_000


REFUSED = {
    "dynamic": ({"type": "dynamic", "factor": 2.0}, "'dynamic'"),
    "longrope": ({"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}, "'longrope'"),
    "mrope": ({"type": "mrope", "mrope_section": [2, 3, 3]}, "'mrope'"),
    "no kind": ({"type": ["yarn"]}, "rotary positions"),
    "no table": ("yarn", "expected a table"),
    "a part of a head": ({**LINEAR, "partial_rotary_factor": 0.5}, "over the whole head"),
    "an unknown key": ({**YARN, "ntk_alpha": 1.0}, "ntk_alpha"),
    "not truncated": ({**YARN, "truncate": False}, "truncate"),
    "squeezed": ({"type": "linear", "factor": 0.5}, "factor"),
    "text": ({"type": "linear", "factor": "2"}, "factor"),
    "no bounds": ({k: v for k, v in LLAMA3.items() if k != "low_freq_factor"}, "low"),
    "bounds crossed": ({**LLAMA3, "low_freq_factor": 4.0}, "low"),
    "a scale of nothing": ({**YARN, "factor": 1.0, "attention_factor": 2.0}, "attention_factor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_computed_is_refused(name):
    scaling, message = REFUSED[name]
    with pytest.raises(WeightsError, match=message):
        rotary.read({**BASE, "rope_scaling": scaling})


def test_a_scale_of_scores_is_written_as_one_of_cos_and_sin_where_the_family_has_no_other():
    yarn = Yarn(factor=4.0, original_context=32, mscale=1.0, mscale_all_dim=1.0)
    spec = llama.spec_of(BASE, set()).changed(stretch=yarn.model_dump())
    back = llama.spec_of(llama.config_of(spec), set())
    ours, theirs = (s.softmax_scale * s.turn_scale**2 for s in (spec, back))
    assert ours == pytest.approx(theirs, rel=1e-12)
    partly = spec.changed(unrotated=(0,))
    with pytest.raises(WeightsError, match="aren't rotated"):
        smollm3.config_of(partly)


def test_a_llama_3_stretch_is_kept():
    spec = llama.spec_of({**BASE, **SPELLINGS["Llama 3"]}, set())
    assert spec.stretch == Llama3(factor=8.0, original_context=32, low=1.0, high=4.0)
