"""What the descendants of GRPO change: the advantage, the weight of a token, and what bounds its ratio.

All of them follow the gradient of sum_i weight_i sum_t s(w_it, A_i), where rollout i of N has reward r_i and
length |o_i| <= L, and w_it = pi(o_it) / pi_old(o_it).  On-policy w = 1 and only advantage and weight are
left. Departures: standard deviations are those of the population; REINFORCE++ has its KL term in the loss,
not the reward.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nomoat.config import Weight

Grouped = Sequence[Sequence[float]]
Advantages = list[list[float]]
TINY = 1e-6

# --- advantage: rewards of every group -> A of every rollout ---


def centred(rewards: Grouped) -> Advantages:
    """A_i = r_i - mean(r) over the group (Dr. GRPO, arXiv 2503.20783, section 3.2): zero where all are
    alike."""
    return [[r - sum(group) / len(group) for r in group] for group in rewards]


def standardised(rewards: Grouped) -> Advantages:
    """A_i = (r_i - mean(r)) / std(r) over the group (GRPO, arXiv 2402.03300, section 4.1.2)."""
    return [[a / (_std(group) + TINY) for a in group] for group in centred(rewards)]


def leave_one_out(rewards: Grouped) -> Advantages:
    """A_i = r_i - mean of the others = G / (G - 1) (r_i - mean(r)) (RLOO, arXiv 2402.14740, eq. 8)."""
    return [[a * len(group) / max(len(group) - 1, 1) for a in group] for group in centred(rewards)]


def batch_standardised(rewards: Grouped) -> Advantages:
    """A_i = (r_i - mean) / std over the whole batch (REINFORCE++, arXiv 2501.03262, section 3): no group is
    dead."""
    flat = [r for group in rewards for r in group]
    mean = sum(flat) / max(len(flat), 1)
    scale = _std([r - mean for r in flat]) + TINY
    return [[(r - mean) / scale for r in group] for group in rewards]


def _std(centred: Sequence[float]) -> float:
    return math.sqrt(sum(a * a for a in centred) / max(len(centred), 1))


# --- weight: of each token of a rollout, given the rollout's length ---


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the batch that a mean is taken over: N rollouts, their tokens together, and L, the longest
    allowed."""

    n_rollouts: float
    n_tokens: int
    longest: int


def constant(length: int, sizes: Sizes) -> float:
    """1 / (N L): every token counts the same whatever the length of its answer (Dr. GRPO, section 3.2)."""
    return 1 / (sizes.n_rollouts * sizes.longest)


def by_sequence(length: int, sizes: Sizes) -> float:
    """1 / (N |o_i|): every answer counts the same, so that long wrong ones are punished less (GRPO, eq.
    3)."""
    return 1 / (sizes.n_rollouts * length)


def by_token(length: int, sizes: Sizes) -> float:
    """1 / sum |o|: the mean over the tokens of the batch (DAPO, arXiv 2503.14476, eq. 8)."""
    return 1 / sizes.n_tokens


# --- ds / dlog p: the gradient of the surrogate, given ratio and advantage ---

Bounds = tuple[Weight, Weight]


def clipped(w: Tensor, a: Tensor, bounds: Bounds) -> Tensor:
    """min(w A, clip(w, 1 - low, 1 + high) A): w A, and nothing once w has gone as far as its advantage asks
    (PPO, arXiv 1707.06347, eq. 7; unequal bounds: DAPO, section 3.1)."""
    return torch.where(torch.where(a > 0, w > 1 + bounds[1], w < 1 - bounds[0]), 0.0, w * a)


def truncated(w: Tensor, a: Tensor, bounds: Bounds) -> Tensor:
    """sg[min(w, high)] A log p: a token beyond the bound keeps its gradient (CISPO, arXiv 2506.13585, eq.
    4)."""
    return w.clamp(max=bounds[1]) * a


def plain(w: Tensor, a: Tensor, bounds: Bounds) -> Tensor:
    """A log p: REINFORCE, blind to the ratio."""
    return a.clone()


@dataclass(frozen=True, slots=True)
class Variant:
    """`whole`: w is the geometric mean of the ratios of a rollout's tokens, the same for all of them."""

    advantage: Callable[[Grouped], Advantages]
    weight: Callable[[int, Sizes], float]
    surrogate: Callable[[Tensor, Tensor, Bounds], Tensor]
    bounds: Bounds
    whole: bool = False


VARIANTS = {
    "dr-grpo": Variant(centred, constant, clipped, (0.2, 0.28)),
    "grpo": Variant(standardised, by_sequence, clipped, (0.2, 0.2)),
    "dapo": Variant(standardised, by_token, clipped, (0.2, 0.28)),
    "gspo": Variant(
        standardised, by_sequence, clipped, (3e-4, 4e-4), whole=True
    ),  # arXiv 2507.18071, eq. 5 to 7
    "cispo": Variant(standardised, by_token, truncated, (0.0, 5.0)),  # the bound of ScaleRL, arXiv 2510.13786
    "rloo": Variant(leave_one_out, constant, plain, (0.0, 0.0)),
    "reinforce++": Variant(batch_standardised, by_token, clipped, (0.2, 0.2)),
}
