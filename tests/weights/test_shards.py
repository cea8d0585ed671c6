"""Shards: no tensor is lost or twice, none is larger than asked, transformers opens them, and nothing stale
stays.
"""

import json

import pytest
import torch
from safetensors.torch import load_file
from shapes import shape

from nomoat.config import WeightsError
from nomoat.weights import directory as hf
from nomoat.weights.files import INDEX, WEIGHTS

SPEC = shape(
    vocab_size=61, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, d_head=8, d_ffn=48, context=64
)  # fmt: skip


@pytest.fixture
def model():
    return hf.empty(SPEC).initialise(3).eval()


def test_shards_hold_every_tensor_once_and_are_small(model, tmp_path):
    hf.save(model, tmp_path / "one")
    hf.save(model, tmp_path / "many", shard_bytes=8000)
    index = json.loads((tmp_path / "many" / INDEX).read_text())
    files = sorted((tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 2
    whole, parts = load_file(tmp_path / "one" / WEIGHTS), [load_file(file) for file in files]
    assert sum(map(len, parts)) == len(whole)
    for file, part in zip(files, parts):
        assert sum(tensor.nbytes for tensor in part.values()) <= 8000 or len(part) == 1
        assert all(index["weight_map"][name] == file.name for name in part)
        assert all(torch.equal(tensor, whole[name]) for name, tensor in part.items())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in whole.values())
    back = hf.load(tmp_path / "many").state_dict()
    assert all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())


def test_transformers_opens_shards(model, tmp_path):
    transformers = pytest.importorskip("transformers")
    hf.save(model, tmp_path, shard_bytes=8000)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    ids_BT = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids_BT).logits, model(ids_BT), atol=1e-4, rtol=0)


def test_what_an_earlier_save_left_is_gone(model, tmp_path):
    for shard_bytes in (8000, 20_000, 10**9, 8000):
        hf.save(model, tmp_path, shard_bytes=shard_bytes)
        names = {file.name for file in tmp_path.glob("*.safetensors")}
        single = shard_bytes == 10**9
        assert (names == {WEIGHTS}) == single
        assert (tmp_path / INDEX).exists() != single
        hf.load(tmp_path)


def test_a_tensor_in_two_shards_is_an_error(model, tmp_path):
    hf.save(model, tmp_path, shard_bytes=8000)
    first, second = sorted(tmp_path.glob("*.safetensors"))[:2]
    second.write_bytes(first.read_bytes())
    with pytest.raises(WeightsError, match="expected it once"):
        hf.load(tmp_path)
