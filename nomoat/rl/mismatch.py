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
from nomoat.rl import exchange
from nomoat.rl.grpo import log_probs
from nomoat.rl.reward import Group, flat
from nomoat.rl.rows import chunks, micro_tokens, pack, pad, width

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
    """The effective sample size is (sum w)^2 / sum w^2 of the weights before they are truncated (Kong 1992)."""
    if not len(d_M):
        return Mismatch(0.0, 0.0, 0.0, 1.0, 0.0, 0)
    d_M = d_M.double()
    w_M = d_M.clamp(max=FAR).exp()
    effective = float(w_M.sum() ** 2 / (w_M**2).sum()) / len(w_M)
    kl = float((w_M - 1 - d_M).mean())
    clipped = float((w_M > clip).double().mean())
    return Mismatch(float(d_M.abs().mean()), float(d_M.abs().max()), kl, effective, clipped, len(d_M))


def learned(model: Transformer, groups: Sequence[Group], temperature: float, mesh: Mesh) -> list[Tensor]:
    """log p of every sampled token under the model that learns, a tensor a rollout; the ranks share the work,
    and all know the result.
    """
    place = {id(judged): number for number, judged in enumerate(flat(groups))}
    own = chunks(exchange.deal(pack(groups), width, mesh), micro_tokens(model))
    found: dict[int, Tensor] = {}
    for chunk in own + [[]] * (mesh.most(len(own)) - len(own)):
        rows = pad(chunk, model.device)
        logp_M = log_probs(model, rows, temperature).cpu()
        parts = logp_M.split([judged.rollout.length for judged in rows.members])
        found |= {place[id(judged)]: logp_T for judged, logp_T in zip(rows.members, parts)}
    everyones = {number: logp_T for theirs in mesh.gather(found) for number, logp_T in theirs.items()}
    return [everyones[number] for number in range(len(place))]


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
