"""What tokens of an outside sampler are worth: their probabilities measured, weighed, refused beyond a bound.

d = log p_learner - log p_sampler of a token that the sampler drew, e^d its importance weight.  Where both
multiply the same weights alike, d is rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nomoat.model.transformer import Transformer
from nomoat.parallel.mesh import Mesh
from nomoat.rl.grpo import at_columns
from nomoat.rl.reward import Group, flat
from nomoat.rl.rows import lay, passes

FAR = 50.0  # nats beyond which a weight is as good as infinite


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Over all tokens that were sampled in a step, in nats."""

    gap: float  # mean |d|
    largest: float  # max |d|
    kl: float  # of the learner from the sampler, by the k3 estimator: mean of e^d - 1 - d
    effective: float  # effective sample size, as a share of the tokens
    clipped: float  # share of the tokens whose weight is truncated
    tokens: int


def weights(d_M: Tensor, clip: float) -> Tensor:
    """min(e^d, clip): truncated importance weights (Ionides 2008), token by token, as a factor of the policy
    gradient, that of the learner's own ratio apart (TIS: Yao et al. 2025).
    """
    return d_M.exp().clamp(max=clip)


def measured(d_M: Tensor, clip: float) -> Mismatch:
    """The effective sample size is (sum w)^2 / sum w^2 of the weights, not truncated (Kong 1992)."""
    n = len(d_M)
    if not n:
        return Mismatch(gap=0.0, largest=0.0, kl=0.0, effective=1.0, clipped=0.0, tokens=0)
    d_M = d_M.double()
    w_M = d_M.clamp(max=FAR).exp()
    effective = w_M.sum() ** 2 / (w_M**2).sum()
    kl_M = w_M - 1 - d_M
    return Mismatch(
        gap=float(d_M.abs().mean()),
        largest=float(d_M.abs().max()),
        kl=float(kl_M.mean()),
        effective=float(effective) / n,
        clipped=float((w_M > clip).sum()) / n,
        tokens=n,
    )


def learned(model: Transformer, groups: Sequence[Group], temperature: float, mesh: Mesh) -> list[Tensor]:
    """log p of every sampled token under the model that learns, a tensor a rollout; the ranks share the work,
    and all know the result.
    """
    place = {id(judged): number for number, judged in enumerate(flat(groups))}
    found: dict[int, Tensor] = {}
    for chunk in passes(model, groups, mesh):
        columns = lay(chunk, model.device)
        lengths = [judged.rollout.length for judged in columns.members]
        logps = at_columns(model, columns, temperature).cpu().split(lengths)
        found |= {place[id(judged)]: logp_T for judged, logp_T in zip(columns.members, logps)}
    for theirs in mesh.gather(found):
        found |= theirs
    return [found[number] for number in place.values()]


def weighed(
    model: Transformer, groups: Sequence[Group], temperature: float, clip: float, mesh: Mesh
) -> tuple[list[Group], Mismatch]:
    """The groups, their log-probabilities now those of the learner, their tokens with truncated weights."""
    logps = iter(learned(model, groups, temperature, mesh))
    gaps, out = [torch.empty(0)], []
    for group in groups:
        members = []
        for judged in group:
            logp_T = next(logps)
            d_T = logp_T - judged.rollout.logp_T
            gaps.append(d_T)
            rollout = replace(judged.rollout, logp_T=logp_T, weight_T=weights(d_T, clip))
            members.append(replace(judged, rollout=rollout))
        out.append(tuple(members))
    return out, measured(torch.cat(gaps), clip)
