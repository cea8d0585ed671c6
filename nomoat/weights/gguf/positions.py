"""Stretched rotary positions as GGUF files have them.

    linear     rope.scaling.type, factor
    YaRN       the same, original_context_length, attn_factor, in deepseek2 yarn_log_multiplier
    Llama 3    no key: a tensor rope_freqs.weight by which the angle of each pair is divided

YaRN, by experiment (docs/interop.md): cos and sin are multiplied by c and the scores by A^2.  With m = 1 +
0.1 ln(factor): in deepseek2 c = attn_factor and A = c (1 + multiplier ln(factor)), or c = A = m attn_factor
where there is no multiplier; elsewhere c = m attn_factor and A = 1.
"""

import math
from typing import Any

import torch
from torch import Tensor

from nomoat.config import WeightsError
from nomoat.model.rope import frequencies
from nomoat.model.spec import Interpolation, Llama3, Spec
from nomoat.weights.gguf.metadata import Metadata

FREQUENCIES = "rope_freqs.weight"
LATENT = "deepseek2"
TINY = 1e-9  # a multiplier of exactly 0 is read as none
LLAMA_3_CONTEXT = 8192


def stretch_of(facts: Metadata) -> dict[str, Any] | None:
    """The table of `Spec.stretch` that the keys name; WeightsError for a kind that isn't computed."""
    if facts.holds("rope.scale_linear"):
        return {"kind": "linear", "factor": facts.real("rope.scale_linear")}
    key = f"{facts.architecture}.rope.scaling.type"
    kind = facts.text(key, "none")
    if kind == "none":
        return None
    factor = facts.real("rope.scaling.factor", 1.0)
    if kind == "linear":
        return {"kind": "linear", "factor": factor}
    if kind != "yarn":
        what_to_do = "expected linear or yarn; choose another model"
        raise WeightsError(f"{facts.path} has {key} = {kind!r}; {what_to_do}")
    return {
        "kind": "yarn",
        "factor": factor,
        "original_context": facts.fact("rope.scaling.original_context_length"),
        "beta_fast": facts.real("rope.scaling.yarn_beta_fast", 32.0),
        "beta_slow": facts.real("rope.scaling.yarn_beta_slow", 1.0),
        **_scales(facts, factor),
    }


def _scales(facts: Metadata, factor: float) -> dict[str, float]:
    """mscale and mscale_all_dim of our Yarn: cos and sin by their quotient, scores by the second, squared."""
    if factor <= 1:
        return {"mscale": 1.0, "mscale_all_dim": 1.0}
    log = math.log(factor)
    m, c = 1 + 0.1 * log, facts.real("rope.scaling.attn_factor", 1.0)
    multiplier = facts.real("rope.scaling.yarn_log_multiplier", 0.0)
    if facts.architecture != LATENT:
        turns, scores = m * c, 1.0
    elif multiplier:
        turns, scores = c, c * (1 + multiplier * log)
    else:
        turns, scores = m * c, m * c

    def mscale(magnitude: float) -> float:
        return round((magnitude - 1) / (0.1 * log), 5) + 0.0

    return {"mscale": mscale(turns * scores), "mscale_all_dim": mscale(scores)}


def keys_of(spec: Spec, architecture: str) -> dict[str, Any]:
    """The keys, without the architecture before them."""
    stretch = spec.stretch
    match stretch:
        case None:
            return {}
        case Interpolation():
            return {"rope.scaling.type": "linear", "rope.scaling.factor": stretch.factor}
        case Llama3():
            return {"rope.scaling.original_context_length": stretch.original_context}
    keys = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": stretch.factor,
        "rope.scaling.original_context_length": stretch.original_context,
        "rope.scaling.yarn_beta_fast": stretch.beta_fast,
        "rope.scaling.yarn_beta_slow": stretch.beta_slow,
    }
    log = math.log(stretch.factor)
    turns, scores = stretch.turn_scale, stretch.magnitude(stretch.mscale_all_dim)
    if architecture != LATENT:
        return keys | {"rope.scaling.attn_factor": turns / (1 + 0.1 * log)}
    multiplier = (scores / turns - 1) / log if log else TINY
    return keys | {
        "rope.scaling.attn_factor": turns,
        "rope.scaling.yarn_log_multiplier": multiplier if abs(multiplier) > TINY else TINY,
    }


def divisors(spec: Spec) -> Tensor:
    """By what the angle of each pair is divided, (R/2,), float32."""
    return frequencies(spec.changed(stretch=None)) / frequencies(spec)


def with_divisors(spec: Spec, found: Tensor, facts: Metadata) -> Spec:
    """The spec with the Llama 3 stretch that has these divisors; WeightsError where there is none."""
    factor = round(float(found.max()), 4)
    context = facts.fact("rope.scaling.original_context_length", LLAMA_3_CONTEXT)
    for original in (context, LLAMA_3_CONTEXT, int(spec.context / max(factor, 1))):
        if factor <= 1 or original < 1:
            continue
        stretch = {"kind": "llama3", "factor": factor, "original_context": original}
        candidate = spec.changed(stretch=stretch)
        expected = divisors(candidate)
        if found.shape == expected.shape and torch.allclose(found.float(), expected, rtol=1e-4):
            return candidate
    if bool((found == 1).all()):
        return spec
    raise WeightsError(
        f"{facts.path} divides its angles ({FREQUENCIES}) in a way that isn't Llama 3's; expected low 1 and "
        "high 4 in an original context of 8192; load the Hugging Face directory of this model"
    )
