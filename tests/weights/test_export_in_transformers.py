"""What `pipeline("text-generation")` prints of an export: the thinking between its marks, and all of it."""

import pytest
import torch
from shapes import shape

from nomoat.model.transformer import Transformer
from nomoat.tokenizer.bpe import train
from nomoat.weights import export

transformers = pytest.importorskip("transformers")


def chain(ids: list[int]) -> Transformer:
    """A model that follows each id by the next, whatever stood before."""
    spec = shape(
        vocab_size=300, n_layers=1, d_model=300, n_heads=1, d_nope=4, d_rope=4, d_value=4, d_kv_latent=4,
        d_ffn=32, n_routed=0, context=256,
    )  # fmt: skip
    model = Transformer(spec).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(float(tensor.ndim < 2))
        model.embed.weight.copy_(torch.eye(300))
        for one, other in zip(ids, ids[1:]):
            model.head.weight[other, one] = 1.0
    return model


@pytest.mark.check
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("type", ["f32", "bf16"])
def test_a_pipeline_shows_thinking_and_does_not_cut(tmp_path, type):
    tokenizer = train(["a small text about numbers, 1 2 3"] * 4, vocab_size=300)
    layout = tokenizer.layout
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # more than transformers' own limit
    thought = [layout.think_id, *tokenizer.encode(letters), layout.end_think_id]
    ids = [layout.role_ids["assistant"], *thought, *tokenizer.encode("42"), layout.eos_id]
    assert len({*ids}) == len(ids) > 40
    export.to_directory(chain(ids), tmp_path / "out", tokenizer=tokenizer, card="# A card", type=type)
    ask = transformers.pipeline("text-generation", str(tmp_path / "out"))
    (said,) = ask([{"role": "user", "content": "6*7?"}])
    assert said["generated_text"][-1] == {"role": "assistant", "content": f"<think>{letters}</think>42"}
    assert ask("<|bos|><|user|>?<|assistant|>", return_full_text=False) == [
        {"generated_text": f"<think>{letters}</think>42"}
    ]
