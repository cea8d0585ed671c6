"""Models as others publish them, tiny and random, in directories; and some that are spoilt."""

import borrowed
import torch
from shapes import built, shape

from nomoat.model.transformer import Transformer
from nomoat.tokenizer import foreign
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights import directory

TOKENIZER = borrowed.made("smollm")
V = TOKENIZER.vocab_size + 5  # rows without a token, as published models have them
LLAMA = shape(
    vocab_size=V, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, d_head=8, d_ffn=48, context=128, tied=True
)
DEEPSEEK = shape(
    vocab_size=V, n_layers=2, d_model=32, n_heads=2, d_nope=8, d_rope=8, d_value=8, d_kv_latent=16,
    d_q_latent=16, d_ffn=48, n_dense_layers=1, n_routed=4, n_shared=1, n_active=2, d_expert=16, context=128,
)  # fmt: skip


def toy(spec, seed=0) -> Transformer:
    model = built(spec).initialise(seed)
    for parameter in model.parameters():  # output projections too: nothing is the identity
        if parameter.ndim > 1:
            parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(seed))
    return model


def saved(path, spec=LLAMA, tokenizer=TOKENIZER, seed=0) -> Transformer:
    """A directory as others publish them; gives its model."""
    model = toy(spec, seed)
    directory.save(model, path, tokenizer=tokenizer)
    return model


def spoilt(path, what):
    """A given directory with one thing wrong; the model and recipe that name it."""
    tokenizer = TOKENIZER
    if what in ("no turns", "answers dropped", "no assistant"):
        table, template, words = borrowed.parts("smollm")
        template = {
            "no turns": None,
            "answers dropped": template.replace("m['content']", "(m.content if m.role == 'user' else '')"),
            "no assistant": "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
        }[what]
        tokenizer = Tokenizer(table, foreign.layout_of(table, template, words))
    model = toy(LLAMA)
    if what == "nan":
        model.blocks[0].ffn.w_down.weight.data[3, 4] = float("nan")
    directory.save(model, path, tokenizer=tokenizer)
    if what == "cut":
        (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:-100])
    return {"from": str(path), **({"context": 12} if what == "short" else {})}
