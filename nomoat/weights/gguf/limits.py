"""What llama.cpp can't compute of a spec, seen by running it (docs/interop.md)."""

from collections.abc import Iterator

from nomoat.config import WeightsError
from nomoat.model.mla import LATENT_EPS
from nomoat.model.moe import Experts
from nomoat.model.spec import Latent, Routed, Spec, Yarn
from nomoat.model.transformer import Transformer

MISREAD = (26, 27)  # counts of layers for which the loader expects no query latent
MOST_DEPTHS = 1  # extra prediction depths
AS_WIDE_AS_MODEL = ("qwen2", "olmo2")  # whose loader asks for queries as wide as the model
BETAS = (32.0, 1.0)
WITH_BIAS = {"qkv_bias": ("llama", "qwen2"), "out_bias": ("llama",)}


def check(model: Transformer, architecture: str) -> None:
    """WeightsError for a model that would be refused or computed otherwise."""
    complaints = [*_complaints(model.spec, architecture)]
    biases = (m.bias_E for m in model.modules() if isinstance(m, Experts))
    if architecture != "deepseek2" and any(bias_E.any() for bias_E in biases):
        complaints.append(("balancing biases", "none beside softmax affinities"))
    for found, expected in complaints:
        raise WeightsError(
            f"llama.cpp can't run this model as {architecture}: it has {found}; expected {expected}; export "
            "it to hf"
        )


def _complaints(spec: Spec, architecture: str) -> Iterator[tuple[str, str]]:
    """(what was found, what was expected)."""
    if isinstance(spec.stretch, Yarn):
        betas = spec.stretch.beta_fast, spec.stretch.beta_slow
        if betas != BETAS:
            yield f"YaRN with betas {betas}", f"{BETAS}: it reads no others"
    if isinstance(spec.attention, Latent):
        yield from _latent(spec)
    else:
        yield from _grouped(spec, architecture)
    if isinstance(spec.ffn, Routed) and architecture == "deepseek2":
        yield from _routed(spec.ffn)


def _latent(spec: Spec) -> Iterator[tuple[str, str]]:
    n_blocks = spec.n_layers + spec.n_mtp
    if spec.attention.d_q_latent and (n_blocks in MISREAD or spec.n_layers in MISREAD):
        count = "another number: its loader takes 26 and 27 layers for a model without query latent"
        yield f"{spec.n_layers} layers and a query latent", count
    if spec.norm_eps != LATENT_EPS:
        yield f"norm_eps = {spec.norm_eps}", f"{LATENT_EPS}, which the norms of the latents have"
    if spec.n_mtp > MOST_DEPTHS:
        yield f"{spec.n_mtp} extra prediction depths", "one at most"


def _grouped(spec: Spec, architecture: str) -> Iterator[tuple[str, str]]:
    a = spec.attention
    if spec.n_mtp:
        yield "extra prediction depths", "none beside grouped-query attention"
    if a.d_value != a.d_head:
        yield f"values of width {a.d_value}", f"the width of the keys, {a.d_head}"
    narrow = a.widths[0] != spec.d_model
    if narrow and architecture in AS_WIDE_AS_MODEL:
        yield f"{a.n_heads} heads of width {a.d_head}", f"{spec.d_model} in all, the width of the model"
    for fact, known in WITH_BIAS.items():
        if getattr(a, fact) and architecture not in known:
            yield f"{fact} = true", f"it in {' or '.join(known)} only"


def _routed(f: Routed) -> Iterator[tuple[str, str]]:
    if f.n_shared < 1:
        yield "no shared expert", "one or more"
    if f.n_groups > 1 and f.group_score != "top2":
        yield "groups scored by their best expert", "by their best two"
