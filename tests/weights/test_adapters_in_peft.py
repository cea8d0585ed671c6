"""Adapters between here and the real `peft`, both ways, by logits; it comes with the extra `peft`."""

import warnings

import pytest
import torch
from adapting import DEEPSEEK, IDS, SHAPES, beside, learnt, toy

from nomoat.weights import directory, peft

pytestmark = [pytest.mark.check, pytest.mark.filterwarnings("ignore")]
library = pytest.importorskip("peft", reason="needs the extra peft")
CLOSE = {"atol": 2e-3, "rtol": 1e-3}


def base_in_transformers(spec, path):
    from transformers import AutoModelForCausalLM

    model = toy(spec)
    directory.save(model, path)
    return model, AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


@SHAPES
def test_what_is_written_here_loads_there_with_every_tensor(spec, tmp_path):
    model, theirs = base_in_transformers(spec, tmp_path / "base")
    pairs = learnt(model)
    peft.save(tmp_path / "adapter", pairs, str(tmp_path / "base"), routed=spec is DEEPSEEK)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        adapted = library.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    assert not [str(w.message) for w in said if "missing adapter" in str(w.message)]
    theirs_of = {n: p for n, p in adapted.named_parameters() if "lora_" in n}
    assert len(theirs_of) == 2 * len(pairs)
    with torch.no_grad():
        torch.testing.assert_close(adapted(IDS).logits, beside(model, pairs)(IDS), **CLOSE)


@SHAPES
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], r".*layers\.1\..*(o|up)_proj"])
def test_what_is_made_there_loads_here_with_every_tensor(spec, targets, tmp_path):
    model, theirs = base_in_transformers(spec, tmp_path / "base")
    if spec is DEEPSEEK:
        targets = ["kv_b_proj", "o_proj", "q_a_proj"] if targets == "all-linear" else ["o_proj"]
    config = library.LoraConfig(
        r=3, lora_alpha=7, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM"
    )
    adapted = library.get_peft_model(theirs, config).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        expected = adapted(IDS).logits
    n, gap = peft.apply(model, peft.opened(tmp_path / "adapter"))
    assert 2 * n == len([name for name, _ in adapted.named_parameters() if "lora_" in name])
    assert gap < 1e-3
    with torch.no_grad():
        torch.testing.assert_close(model(IDS), expected, **CLOSE)


def test_routed_experts_of_theirs_are_refused_by_name(tmp_path):
    from nomoat.config import WeightsError

    _, theirs = base_in_transformers(DEEPSEEK, tmp_path / "base")
    config = library.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    library.get_peft_model(theirs, config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(WeightsError, match="experts|mlp.gate"):
        peft.apply(toy(DEEPSEEK), peft.opened(tmp_path / "adapter"))
