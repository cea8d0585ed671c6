"""Rotary positions (arXiv 2104.09864), stretched linearly, as Llama 3.1 or by YaRN (arXiv 2309.00071).

Pairs (x0, x1), (x2, x3), … are turned as complex numbers, in float32 whatever the model's precision.
Departure, with the published code: YaRN's ramp rises along the pairs between two whole ones, not along r(d).
"""

import math

import torch
from torch import Tensor

from nomoat.model.spec import Interpolation, Llama3, Spec, Yarn


def frequencies(spec: Spec) -> Tensor:
    """Radians per position of each of the R/2 pairs, float32."""
    d_rope = spec.attention.d_rope
    pairs = torch.arange(0, d_rope, 2, dtype=torch.float32) / d_rope
    theta = 1.0 / spec.rope_theta**pairs
    match spec.stretch:
        case None:
            return theta
        case Interpolation(factor=factor):
            return theta / factor  # arXiv 2306.15595
        case Llama3():
            ramp = _blend(spec.stretch, theta)
        case Yarn():
            ramp = _ramp(spec.stretch, d_rope, spec.rope_theta)
    return theta / spec.stretch.factor * ramp + theta * (1 - ramp)  # YaRN (20)


def _blend(stretch: Llama3, theta: Tensor) -> Tensor:
    """0 for pairs that turn `high` times or more in the original context, 1 for `low` times or less."""
    n_turns = theta * stretch.original_context / (2 * math.pi)
    return 1 - ((n_turns - stretch.low) / (stretch.high - stretch.low)).clamp(0, 1)


def _ramp(yarn: Yarn, d_rope: int, base: float) -> Tensor:
    """0 for fast pairs, which keep their angle, 1 for slow pairs, which are interpolated."""

    def pair_of(rotations: float) -> float:
        return d_rope * math.log(yarn.original_context / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(pair_of(yarn.beta_fast)), 0)
    high = min(math.ceil(pair_of(yarn.beta_slow)), d_rope - 1)
    pair = torch.arange(d_rope // 2, dtype=torch.float32)
    ramp = (pair - low) / max(high - low, 1e-3)
    return ramp.clamp(0, 1)  # 1 - gamma of YaRN (18)


def turns(spec: Spec, positions: Tensor) -> Tensor:
    """One unit complex number for each position and pair, (…, R/2), YaRN's magnitude included."""
    freq_r = frequencies(spec).to(positions.device)
    angles = positions[..., None].float() * freq_r
    return torch.polar(torch.full_like(angles, spec.turn_scale), angles)


def rotate(x: Tensor, cis: Tensor) -> Tensor:
    """x (…, R) turned by cis (…, R/2), which broadcasts against it."""
    wide = x.float().contiguous()
    if wide.storage_offset() % 2:  # torch wants a complex number to begin at an even place
        wide = wide.clone()
    pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * cis).flatten(-2).to(x.dtype)
