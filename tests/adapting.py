"""Toy models of two shapes, and adapters of them as after some training."""

import pytest
import torch
from shapes import built, shape

from nomoat.model.lora import Lora, attach, without
from nomoat.weights import adapters

LLAMA = shape(
    vocab_size=40, n_layers=2, d_model=16, n_heads=4, n_kv_heads=2, d_head=8, d_ffn=24, context=32, tied=True
)
DEEPSEEK = shape(
    vocab_size=40, n_layers=2, d_model=16, n_heads=2, d_nope=4, d_rope=4, d_value=4, d_kv_latent=8,
    d_q_latent=8, d_ffn=24, n_dense_layers=1, n_routed=4, n_shared=1, n_active=2, d_expert=8, context=32,
)  # fmt: skip
SHAPES = pytest.mark.parametrize("spec", [LLAMA, DEEPSEEK], ids=["llama", "deepseek"])
IDS = torch.arange(24).view(2, 12) % 40
SOME = ("q_proj", "v_proj", "down_proj", "kv_b_proj")


def toy(spec):
    generator = torch.Generator().manual_seed(0)
    model = built(spec).initialise(0).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=0.3, generator=generator)
    return model


def learnt(model, targets=None, rank=3, seed=1):
    """Pairs by published names, as after some training."""
    known = adapters.places(model)
    if targets is not None:
        targets = tuple(t for t in targets if any(adapters.is_target(name, [t]) for name in known))
    parts = adapters.new_parts(model, Lora(rank=rank, alpha=2.0 * rank, targets=targets), seed)
    generator = torch.Generator().manual_seed(seed)
    for of_module in parts.values():
        for part in of_module.values():
            part.pair.up.normal_(std=0.2, generator=generator)
    return adapters.published(adapters.places(model), parts)


def beside(model, pairs):
    return attach(without(model), adapters.ours(adapters.places(model), pairs))
