"""Small models of every architecture that a GGUF file can hold."""

import torch
from shapes import shape, varied

from nomoat.model.spec import Interpolation, Llama3, Spec, Yarn
from nomoat.model.transformer import Transformer

LATENT = shape(
    vocab_size=320, n_layers=3, d_model=64, n_heads=4, d_nope=16, d_rope=8, d_value=12, d_kv_latent=32,
    d_q_latent=24, d_ffn=96, n_dense_layers=1, n_routed=8, n_shared=2, n_active=3, d_expert=32, n_groups=4,
    n_active_groups=2, routed_scale=1.5, context=256,
)  # fmt: skip
GROUPED = shape(
    vocab_size=320, n_layers=4, d_model=64, n_heads=4, n_kv_heads=2, d_head=16, d_ffn=96, context=256
)
SOFTMAX = {"scoring": "softmax", "n_groups": 1, "n_active_groups": 1, "normalise_gates": False}
YARN = Yarn(factor=4.0, original_context=64)
SPECS = {
    "deepseek2": LATENT,
    "deepseek2, no query latent": varied(LATENT, d_q_latent=None),
    "deepseek2, dense, tied": varied(LATENT, n_routed=0, d_q_latent=None, tied=True),
    "deepseek2, softmax": varied(LATENT, **SOFTMAX),
    "deepseek2, YaRN": varied(LATENT, stretch=YARN),
    "deepseek2, YaRN's scales": varied(
        LATENT, stretch=YARN.model_copy(update={"mscale": 0.7, "mscale_all_dim": 0.3})
    ),
    "deepseek2, YaRN unscaled": varied(
        LATENT, stretch=YARN.model_copy(update={"mscale": 0.0, "mscale_all_dim": 0.0})
    ),
    "deepseek2, depth": varied(LATENT, n_mtp=1),
    "deepseek2, dense, depth": varied(LATENT, n_routed=0, n_mtp=1),
    "llama": varied(GROUPED, d_head=32, d_value=32),
    "llama, tied": varied(GROUPED, tied=True),
    "llama, biases": varied(GROUPED, qkv_bias=True, out_bias=True),
    "llama, stretched": varied(GROUPED, stretch=Llama3(factor=8.0, original_context=64)),
    "llama, linear": varied(GROUPED, stretch=Interpolation(factor=2.0)),
    "llama, YaRN": varied(GROUPED, stretch=YARN.model_copy(update={"mscale": 0.5, "mscale_all_dim": 0.0})),
    "qwen2": varied(GROUPED, qkv_bias=True),
    "qwen3": varied(GROUPED, d_head=32, d_value=32, qk_norm="head"),
    "qwen3moe": varied(
        GROUPED, qk_norm="head", n_routed=8, n_active=2, d_expert=32, n_dense_layers=0, n_shared=0,
        scoring="softmax",
    ),
    "smollm3": varied(GROUPED, unrotated=(3,)),
    "olmo2": varied(GROUPED, qk_norm="whole", norm_place="after"),
}  # fmt: skip


def filled(spec: Spec, seed: int = 3) -> Transformer:
    """A model of this shape with random weights, gains and biases."""
    model = Transformer(spec).eval()
    generator = torch.Generator().manual_seed(seed)
    biased = spec.attention.kind == "latent"
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            draw = torch.randn(tensor.shape, generator=generator)
            if name.endswith("bias_E"):
                tensor.copy_(0.2 * draw * biased)
            elif tensor.ndim > 1 or name.endswith("bias"):
                tensor.copy_(0.25 * draw)
            else:
                tensor.copy_(1 + 0.2 * draw)
    return model
