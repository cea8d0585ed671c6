"""Group relative policy optimisation (arXiv 2402.03300): rollouts and what they are worth -> a gradient.

What an answer is worth beside its group, how much each of its tokens counts and what bounds an old rollout's ratio is
in `variants.py`; the default is Dr. GRPO's (arXiv 2503.20783): the reward less the mean of the group, every token alike.

The rollouts of a group share one copy of their prompt in the update as they did in sampling: a row holds the prompt
once and behind it several completions that can't see each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nomoat.model.loss import log_prob_objective
from nomoat.model.transformer import Transformer
from nomoat.rl.rollout import Rollout
from nomoat.rl.variants import VARIANTS, Variant

ROW_TOKENS = 256  # a row takes completions of its group until it is about this long
MICRO_TOKENS = 8192  # tokens of one forward and backward pass


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt and completions of it.  `source` is the column whose hidden state predicts `target`."""

    ids_T: Tensor
    pos_T: Tensor
    segment_T: Tensor  # 0 the prompt, 1 … the completions
    source_M: Tensor
    target_M: Tensor
    advantage_M: Tensor
    weight_M: Tensor
    logp_old_M: Tensor
    lengths: tuple[int, ...]  # of the completions, whose tokens follow each other in the _M fields


def pack(
    groups: Sequence[Sequence[Rollout]],
    advantages: Sequence[Sequence[float]] | None = None,
    weights: Sequence[Sequence[float]] | None = None,
) -> list[Row]:
    """Rows of whole completions behind their prompt; every sampled token is a target exactly once.

    Advantages and weights of the rollouts are 1 unless they are given.
    """
    rows = []
    ones = [[1.0] * len(group) for group in groups]
    advantages, weights = advantages or ones, weights or ones
    for group, *values in zip(groups, advantages, weights):
        prompt_T = group[0].ids_T[: group[0].n_prompt]
        pending: list[tuple[Rollout, float, float]] = []
        used = len(prompt_T)
        for rollout, advantage, weight in zip(group, *values):
            if pending and used + rollout.length - 1 > ROW_TOKENS:
                rows.append(_row(prompt_T, pending))
                pending, used = [], len(prompt_T)
            pending.append((rollout, advantage, weight))
            used += rollout.length - 1
        rows.append(_row(prompt_T, pending))
    return rows


def _row(prompt_T: Tensor, members: Sequence[tuple[Rollout, float, float]]) -> Row:
    P = column = len(prompt_T)
    parts = [(prompt_T, torch.arange(P), torch.zeros_like(prompt_T), *[prompt_T[:0]] * 5)]  # in the order of Row's fields
    for number, (rollout, advantage, weight) in enumerate(members, 1):
        new_T = rollout.ids_T[P:]
        n = len(new_T) - 1  # the last token predicts nothing
        source_M = torch.cat((torch.tensor([P - 1]), torch.arange(column, column + n)))
        values = torch.full((n + 1,), advantage), torch.full((n + 1,), weight), rollout.logp_T[P:]
        parts.append((new_T[:-1], torch.arange(P, P + n), torch.full((n,), number), source_M, new_T, *values))
        column += n
    return Row(*map(torch.cat, zip(*parts)), tuple(rollout.length for rollout, _, _ in members))


@dataclass(frozen=True, slots=True)
class Update:
    """What one policy-gradient pass measured; means over the sampled tokens."""

    loss: float
    entropy: float
    drift: float  # max |log p now - log p when drawn|: zero but for rounding while the policy is the sampler
    kl: float | None  # to the reference, in nats a token, by the k3 estimator
    tokens: int  # columns that were computed, padding included
    attended: float  # mean columns that a computed token attended to, padding included
    passes: int  # forward passes that were computed; a backward pass counts as two


def policy_gradient(
    model: Transformer,
    rows: Sequence[Row],
    pad_id: int,
    *,
    variant: Variant = VARIANTS["dr-grpo"],
    off_policy: bool = False,
    temperature: float = 1.0,
    reference: Transformer | None = None,
    kl: float = 0.0,
) -> Update:
    """Gradients of -sum_t weight_t s(w_t, A_t) + kl weight_t k3_t, accumulated over all rows.

    On-policy w_t = 1 and the gradient is REINFORCE's; `off_policy` asks for the variant's ratio and its bound, which
    matter only where the weights moved since the rollouts were drawn.  k3 = r - log r - 1 with r = pi_ref / pi
    (GRPO, arXiv 2402.03300, eq. 4).  Logits are divided by the temperature that the rollouts were drawn at.
    """
    loss, entropy, drift, diverged, n_targets, tokens, attended = 0.0, 0.0, 0.0, 0.0, 0, 0, 0.0
    for chunk in chunks(rows):
        laid = lay_out(chunk, pad_id, model.device)
        reference_M = _log_probs(reference, laid, temperature) if reference is not None else None
        base_M = laid.logp_old_M
        if off_policy and variant.whole:  # log p - base is then the rollout's mean log ratio, gradients aside
            now_M = _log_probs(model, laid, temperature)
            lengths = [n for row in chunk for n in row.lengths]
            means = [gap.mean().expand(len(gap)) for gap in (now_M - base_M).split(lengths)]
            base_M = now_M - torch.cat(means)

        def coefficient(logp: Tensor, part: slice, laid=laid, old=base_M, reference=reference_M) -> Tensor:
            gain = laid.advantage_M[part]
            if off_policy:
                gain = variant.surrogate((logp - old[part]).exp(), gain, variant.bounds)
            if kl and reference is not None:
                gain = gain - kl * (1 - (reference[part] - logp).exp())
            return -laid.weight_M[part] * gain

        h_MD = _hidden(model, laid, temperature)
        objective, logp_M, entropy_M = log_prob_objective(h_MD, model.head.weight, laid.target_M, coefficient, entropy=True)
        objective.backward()
        log_w = logp_M - laid.logp_old_M
        loss -= float((laid.weight_M * laid.advantage_M * log_w.exp()).sum())
        entropy += float(entropy_M.sum())
        drift = max(drift, float(log_w.abs().max()))
        if reference_M is not None:
            log_r = reference_M - logp_M
            k3_M = log_r.exp() - log_r - 1
            diverged += float(k3_M.sum())
            loss += kl * float((laid.weight_M * k3_M).sum())
        n_targets += len(logp_M)
        tokens += laid.ids_BT.numel()
        attended += laid.ids_BT.numel() * laid.ids_BT.shape[1]
    n = max(n_targets, 1)
    diverged = diverged / n if reference is not None else None
    passes = 3 + (reference is not None) + (off_policy and variant.whole)
    return Update(loss, entropy / n, drift, diverged, tokens, attended / max(tokens, 1), passes)


def _hidden(model: Transformer, laid: "Laid", temperature: float) -> Tensor:
    """(M, D): what predicts each target; its product with the head is the logits over the temperature."""
    h_BTD, _ = model.hidden(laid.ids_BT, laid.pos_BT, laid.mask)
    h_MD = model.final(h_BTD).flatten(0, 1).index_select(0, laid.source_M)
    return h_MD if temperature == 1 else h_MD / temperature


@torch.no_grad()
def _log_probs(model: Transformer, laid: "Laid", temperature: float) -> Tensor:
    h_MD = _hidden(model, laid, temperature)
    return log_prob_objective(h_MD, model.head.weight, laid.target_M, lambda logp, part: torch.zeros_like(logp))[1]


def group_mask(segment_BT: Tensor) -> Tensor:
    """(B, 1, T, T): a completion sees its prompt (segment 0) and its own past; padding (-1) sees itself."""
    T = segment_BT.shape[1]
    own = segment_BT[:, :, None] == segment_BT[:, None, :]
    prompt = (segment_BT[:, None, :] == 0) & (segment_BT[:, :, None] >= 0)
    causal = torch.ones(T, T, dtype=torch.bool, device=segment_BT.device).tril()
    return ((own | prompt) & causal)[:, None]


@dataclass(frozen=True, slots=True)
class Laid:
    """Rows side by side on a device, padded to the longest; the _M fields end to end, `source_M` in flattened columns."""

    ids_BT: Tensor
    pos_BT: Tensor
    mask: Tensor
    source_M: Tensor
    target_M: Tensor
    advantage_M: Tensor
    weight_M: Tensor
    logp_old_M: Tensor


def lay_out(rows: Sequence[Row], pad_id: int, device: torch.device) -> Laid:
    T = max(len(row.ids_T) for row in rows)
    ids_BT = torch.full((len(rows), T), pad_id)
    pos_BT = torch.zeros(len(rows), T, dtype=torch.long)
    segment_BT = torch.full((len(rows), T), -1)
    for b, row in enumerate(rows):
        n = len(row.ids_T)
        ids_BT[b, :n], pos_BT[b, :n], segment_BT[b, :n] = row.ids_T, row.pos_T, row.segment_T
    source_M = torch.cat([row.source_M + b * T for b, row in enumerate(rows)])
    fields = [torch.cat([getattr(row, name) for row in rows]) for name in ("target_M", "advantage_M", "weight_M", "logp_old_M")]
    mask = group_mask(segment_BT.to(device))
    return Laid(*(tensor.to(device) for tensor in (ids_BT, pos_BT, mask, source_M, *fields)))


def chunks(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of similar length together, so that little is padded; at most MICRO_TOKENS a chunk."""
    found: list[list[Row]] = []
    for row in sorted(rows, key=lambda r: -len(r.ids_T)):
        longest = len(found[-1][0].ids_T) if found else 0
        if found and longest * (len(found[-1]) + 1) <= MICRO_TOKENS and len(row.ids_T) > 0.8 * longest:
            found[-1].append(row)
        else:
            found.append([row])
    return found
