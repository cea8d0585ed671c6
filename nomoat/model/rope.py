"""Rotary positions (arXiv 2104.09864), stretched by YaRN (arXiv 2309.00071).

Pairs (x0, x1), (x2, x3), … are turned as complex numbers, in float32 whatever the model's precision.
Departure, with the published code: YaRN's ramp rises along the pairs between two whole ones, not along r(d).
"""

import math

import torch
from torch import Tensor

from nomoat.model.spec import Spec, Yarn


def frequencies(spec: Spec) -> Tensor:
    """Radians per position of each of the R/2 pairs, float32."""
    d_rope = spec.attention.d_rope
    pairs = torch.arange(0, d_rope, 2, dtype=torch.float32) / d_rope
    theta = 1.0 / spec.rope_theta**pairs
    if spec.yarn is None:
        return theta
    ramp = _ramp(spec.yarn, d_rope, spec.rope_theta)
    return theta / spec.yarn.factor * ramp + theta * (1 - ramp)  # YaRN (20)


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
    magnitude = spec.yarn.turn_scale if spec.yarn else 1.0
    return torch.polar(torch.full_like(angles, magnitude), angles)


def rotate(x: Tensor, cis: Tensor) -> Tensor:
    """x (…, R) turned by cis (…, R/2), which broadcasts against it."""
    pairs = torch.view_as_complex(x.float().contiguous().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * cis).flatten(-2).to(x.dtype)
