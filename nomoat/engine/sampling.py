"""From logits to one token a row: inverse CDF with keyed uniform numbers."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nomoat.engine.request import Sampling, Scored

LOG2_E = math.log2(math.e)
BELOW_ONE = 1 - 2**-24  # the largest float32 under 1: times it, a sum of weights stays below itself
MOST_KEPT = 512  # ids that are looked at first, where a few of the vocabulary are kept
FEW = 32  # rows whose softmax over the vocabulary lies in memory at a time
BLOCK = 64  # the CDF is searched by blocks, then inside one: no running sum over the whole vocabulary


def uniforms(seed: int, keys: Sequence[tuple[int, int]], n_steps: int) -> Tensor:
    """One row of uniform numbers for each key (prompt, sample), float32 in [0, 1).

    A row depends on the seed and on its own key alone, and a longer row begins with the shorter one: neither
    batching nor order nor the length limit changes what a sample draws.
    """
    rows = np.empty((len(keys), n_steps), dtype=np.float32)
    for row, (prompt, index) in zip(rows, keys):
        key = np.array([seed % 2**64, prompt % 2**64], dtype=np.uint64)
        source = np.random.Philox(key=key, counter=[0, index, 0, 0])
        row[:] = np.random.Generator(source).random(n_steps, dtype=np.float32)
    return torch.from_numpy(rows)


def choose(
    logits_BV: Tensor, uniform_B: Tensor | None, temperature: float | Tensor = 1.0
) -> tuple[Tensor, Tensor]:
    """Token ids and their log-probabilities under softmax(logits / temperature), float32; temperature (B)
    or one for all.

    Where the uniform number is negative (or there are none), the most probable token, of equals the one
    with the lower id.  A token of probability zero is never chosen.
    """
    scale = LOG2_E / torch.as_tensor(temperature, device=logits_BV.device)
    bits_BV = logits_BV * scale.view(-1, 1)  # exp2 is four times faster than exp on the CPU
    bits_BV.sub_(bits_BV.amax(-1, keepdim=True))
    powers = bits_BV.exp2()
    if powers.shape[1] % BLOCK:
        powers = F.pad(powers, (0, -powers.shape[1] % BLOCK))
    blocks = powers.unflatten(1, (-1, BLOCK))
    cdf = blocks.sum(-1).cumsum(-1)
    id_B = logits_BV.argmax(-1)
    if uniform_B is not None:
        drawn_B = _draw(blocks, cdf, uniform_B.clamp(min=0)).clamp(max=logits_BV.shape[1] - 1)
        id_B = torch.where(uniform_B < 0, id_B, drawn_B)
    logp_B = (bits_BV.gather(1, id_B[:, None])[:, 0] - cdf[:, -1].log2()) / LOG2_E
    return id_B, logp_B


def shaped(
    logits_V: Tensor, sampling: Sampling, prompt: Sequence[int], reply: Sequence[int]
) -> Tensor:
    """The logits behind penalties (CTRL, arXiv 1909.05858) and bias."""
    if not sampling.penalised:
        return logits_V
    logits_V = logits_V.clone()
    seen = torch.tensor(sorted({*prompt, *reply}), device=logits_V.device)
    if sampling.repetition != 1:
        old = logits_V[seen]
        logits_V[seen] = torch.where(
            old > 0, old / sampling.repetition, old * sampling.repetition
        )
    for id, times in Counter(reply).items():
        logits_V[id] -= sampling.presence + times * sampling.frequency
    if sampling.bias:
        biased = torch.tensor([*sampling.bias], device=logits_V.device)
        logits_V[biased] += logits_V.new_tensor([*sampling.bias.values()])
    return logits_V


def masked(logits_V: Tensor, allowed_V: Tensor | None) -> Tensor:
    """The logits, -inf where an id is not allowed; all of them where none is, or all are."""
    if allowed_V is None or not allowed_V.any():
        return logits_V
    return logits_V.masked_fill(~allowed_V.to(logits_V.device), -math.inf)


def truncated(logits_V: Tensor, sampling: Sampling) -> Tensor:
    """The logits, -inf where top-k, then top-p (arXiv 1904.09751), then min-p (arXiv 2407.01082) leave a
    token out; of equals lower ids stay.
    """
    if not (sampling.truncates and sampling.temperature):
        return logits_V
    ids = best(logits_V, min(MOST_KEPT, len(logits_V)))
    n_kept = kept(logits_V, ids, sampling)
    if n_kept == len(ids) or len(ids) < (sampling.top_k or 0):  # there may be more
        ids = best(logits_V, len(logits_V))
        n_kept = kept(logits_V, ids, sampling)
    out = torch.full_like(logits_V, -math.inf)
    out[ids[:n_kept]] = logits_V[ids[:n_kept]]
    return out


def best(logits_V: Tensor, n: int) -> Tensor:
    """At most the `n` ids of the largest logits, in their order; equal ones are all there or none is."""
    if n == len(logits_V):
        return logits_V.sort(descending=True, stable=True).indices
    found = logits_V.topk(n)
    ids = found.indices[found.values > found.values[-1]].sort().values
    return ids[logits_V[ids].sort(descending=True, stable=True).indices]


def kept(logits_V: Tensor, ids: Tensor, sampling: Sampling) -> int:
    """How many of the best ids the rules keep, one at least."""
    scaled_V = logits_V / sampling.temperature
    weights_V = (scaled_V - scaled_V.amax()).exp().double()
    weights = weights_V[ids[: sampling.top_k]]
    cdf = weights.cumsum(-1)
    everything = weights if sampling.top_k is not None else weights_V
    total = everything.cumsum(-1)[-1]  # the same bits for any number of threads
    stays = cdf - weights < sampling.top_p * total
    stays &= weights >= sampling.min_p
    return max(int(stays.sum()), 1)


def scored(logits_MV: Tensor, ids: Sequence[int], n_top: int) -> list[Scored]:
    """What softmax(logits) gave to each id, and the `n_top` ids that it gave most."""
    id_M1 = torch.tensor(ids, device=logits_MV.device)[:, None]
    found = []
    for few_MV, few_M1 in zip(logits_MV.split(FEW), id_M1.split(FEW)):
        found += _scored(few_MV, few_M1, n_top)
    return found


def _scored(logits_MV: Tensor, id_M1: Tensor, n_top: int) -> list[Scored]:
    logp_MV = logits_MV.float().log_softmax(-1)
    best = logp_MV.topk(min(n_top, logp_MV.shape[1]))
    logps = logp_MV.gather(1, id_M1)[:, 0].tolist()
    tops = zip(best.indices.tolist(), best.values.tolist())
    return [Scored(logp, tuple(zip(*top))) for logp, top in zip(logps, tops)]


def _draw(blocks: Tensor, cdf: Tensor, uniform_B: Tensor) -> Tensor:
    """The ids in whose step of the CDF the uniform numbers lie; `cdf` is that of whole blocks."""
    block_B, place_B = _search(cdf, uniform_B * cdf[:, -1])
    inside = blocks.gather(1, block_B[:, None, None].expand(-1, 1, BLOCK))[:, 0].cumsum(-1)
    offset_B, _ = _search(inside, torch.minimum(place_B, inside[:, -1] * BELOW_ONE))
    return block_B * BLOCK + offset_B


def _search(cdf: Tensor, place_B: Tensor) -> tuple[Tensor, Tensor]:
    """Which step of each row's running sum holds the place, and how far into that step the place lies."""
    step_B1 = torch.searchsorted(cdf, place_B[:, None], right=True)
    step_B1 = step_B1.clamp(max=cdf.shape[1] - 1)  # where nothing is a number
    before_B1 = F.pad(cdf, (1, 0)).gather(1, step_B1)
    return step_B1[:, 0], place_B - before_B1[:, 0]
