"""A saved directory keeps its ids in transformers' AutoTokenizer, whatever the family is and whatever
splitting Qwen2's own class would put in the place of the file's.
"""

import json
from dataclasses import replace
from random import Random

import pytest
import tokenizers
import torch
from shapes import shape, varied

from nomoat.config import WeightsError
from nomoat.tokenizer.bpe import Tokenizer, train
from nomoat.weights import directory as hf
from nomoat.weights import export
from nomoat.weights.families import qwen2

transformers = pytest.importorskip("transformers")

GROUPED = shape(
    vocab_size=340, n_layers=1, d_model=16, n_heads=2, n_kv_heads=1, d_head=8, d_ffn=16, context=64
)  # fmt: skip
LATENT = shape(
    vocab_size=340, n_layers=1, d_model=16, n_heads=2, d_nope=4, d_rope=4, d_value=4, d_kv_latent=8, d_ffn=16,
    context=64,
)  # fmt: skip
SPECS = {
    "deepseek_v3": LATENT,
    "llama": GROUPED,
    "qwen2": varied(GROUPED, qkv_bias=True),
    "qwen3": varied(GROUPED, qk_norm="head"),
    "smollm3": varied(GROUPED, unrotated=(0,)),
    "olmo2": varied(GROUPED, qk_norm="whole", norm_place="after"),
}
RANDOM = Random(3)
PIECES = "ab 12'st\n½²٣é日 "
TEXTS = ["a  12", "it's 5's\n\n 77  88", *("".join(RANDOM.choices(PIECES, k=30)) for _ in range(100))]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(["it's 5's: numbers, 1 2 3 and 12 34 words  and  blanks\n\n x"] * 9, vocab_size=340)


@pytest.fixture(scope="module")
def as_qwen2(tokenizer) -> Tokenizer:
    """The same vocabulary, split as Qwen2's class does, under the specials that it wants."""
    split = {"type": "Split", "pattern": {"Regex": qwen2.SPLIT}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    table = json.loads(tokenizer.canonical)
    n_ids = max([*table["model"]["vocab"].values(), *(t["id"] for t in table["added_tokens"])]) + 1
    table["added_tokens"].append({**table["added_tokens"][0], "id": n_ids, "content": "<|endoftext|>"})
    table["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, byte_level]}
    table["normalizer"] = {"type": "NFC"}
    return Tokenizer(table, replace(tokenizer.layout))


def same_ids(directory) -> bool:
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    table = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    assert len(theirs) == table.get_vocab_size()
    found = [theirs(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    return found == [table.encode(text, add_special_tokens=False).ids for text in TEXTS]


@pytest.mark.parametrize("family", SPECS)
def test_ids_are_those_of_the_file(family, tokenizer, tmp_path):
    hf.save(hf.empty(SPECS[family]).initialise(1), tmp_path, tokenizer=tokenizer)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == ("llama" if family == "qwen2" else family)
    assert same_ids(tmp_path)


@torch.no_grad()
def test_a_qwen2_model_with_another_splitting_is_a_llama_with_biases_of_zero(tokenizer, tmp_path):
    model = hf.empty(SPECS["qwen2"]).initialise(1).eval()
    model.blocks[0].attention.w_in.bias.normal_()
    export.to_directory(model, tmp_path / "out", tokenizer=tokenizer)  # read back and compared
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(theirs) is transformers.LlamaForCausalLM
    ids_BT = torch.arange(40)[None]
    torch.testing.assert_close(theirs(ids_BT).logits, model(ids_BT), atol=1e-4, rtol=0)
    with pytest.raises(WeightsError, match="splits otherwise than Qwen2's own"):
        hf.save(model, tmp_path / "asked", tokenizer=tokenizer, model_type="qwen2")
    assert not (tmp_path / "asked").exists()


def test_a_qwen2_model_with_qwen2s_splitting_stays_one(as_qwen2, tmp_path):
    hf.save(hf.empty(SPECS["qwen2"]).initialise(1), tmp_path, tokenizer=as_qwen2)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "qwen2"
    assert same_ids(tmp_path)
