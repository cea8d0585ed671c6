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

from nomoat.model.transformer import Transformer
from nomoat.rl.rollout import Rollout
from nomoat.rl.variants import VARIANTS, Variant
from nomoat.train.loss import log_prob_objective

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
        laid, mask, target_M, advantage_M, weight_M, logp_old_M = _on_device(chunk, pad_id, model.embed.device)
        reference_M = _log_probs(reference, laid, mask, target_M, temperature) if reference is not None else None
        base_M = logp_old_M
        if off_policy and variant.whole:  # log p - base is then the rollout's mean log ratio, gradients aside
            now_M = _log_probs(model, laid, mask, target_M, temperature)
            lengths = [n for row in chunk for n in row.lengths]
            means = [gap.mean().expand(len(gap)) for gap in (now_M - logp_old_M).split(lengths)]
            base_M = now_M - torch.cat(means)

        def coefficient(logp: Tensor, part: slice, a=advantage_M, weight=weight_M, old=base_M, reference=reference_M) -> Tensor:
            gain = variant.surrogate((logp - old[part]).exp(), a[part], variant.bounds) if off_policy else a[part]
            if kl and reference is not None:
                gain = gain - kl * (1 - (reference[part] - logp).exp())
            return -weight[part] * gain

        h_MD = _hidden(model, laid, mask, temperature)
        objective, logp_M, entropy_M = log_prob_objective(h_MD, model.head, target_M, coefficient, entropy=True)
        objective.backward()
        loss -= float((weight_M * advantage_M * (logp_M - logp_old_M).exp()).sum())
        entropy += float(entropy_M.sum())
        drift = max(drift, float((logp_M - logp_old_M).abs().max()))
        if reference_M is not None:
            log_r = reference_M - logp_M
            diverged += float((log_r.exp() - log_r - 1).sum())
            loss += kl * float((weight_M * (log_r.exp() - log_r - 1)).sum())
        n_targets += len(target_M)
        tokens += laid.ids_BT.numel()
        attended += laid.ids_BT.numel() * laid.ids_BT.shape[1]
    n = max(n_targets, 1)
    diverged = diverged / n if reference is not None else None
    passes = 3 + (reference is not None) + (off_policy and variant.whole)
    return Update(loss, entropy / n, drift, diverged, tokens, attended / max(tokens, 1), passes)


def _on_device(chunk: Sequence[Row], pad_id: int, device: torch.device) -> tuple:
    """A chunk of rows laid out, its mask, and its _M fields end to end."""
    laid = lay_out(chunk, pad_id)
    names = ("target_M", "advantage_M", "weight_M", "logp_old_M")
    fields = [torch.cat([getattr(row, name) for row in chunk]).to(device) for name in names]
    return laid, group_mask(laid.segment_BT.to(device)), *fields


def _hidden(model: Transformer, laid: "Laid", mask: Tensor, temperature: float) -> Tensor:
    """(M, D): what predicts each target; its product with the head is the logits over the temperature."""
    device = model.embed.device
    h_BTD, _ = model.hidden(laid.ids_BT.to(device), laid.pos_BT.to(device), mask)
    h_MD = model.final(h_BTD).flatten(0, 1).index_select(0, laid.source_M.to(device))
    return h_MD if temperature == 1 else h_MD / temperature


@torch.no_grad()
def _log_probs(model: Transformer, laid: "Laid", mask: Tensor, target_M: Tensor, temperature: float) -> Tensor:
    h_MD = _hidden(model, laid, mask, temperature)
    return log_prob_objective(h_MD, model.head, target_M, lambda logp, part: torch.zeros_like(logp))[1]


def group_mask(segment_BT: Tensor) -> Tensor:
    """(B, 1, T, T): a completion sees its prompt (segment 0) and its own past; padding (-1) sees itself."""
    T = segment_BT.shape[1]
    own = segment_BT[:, :, None] == segment_BT[:, None, :]
    prompt = (segment_BT[:, None, :] == 0) & (segment_BT[:, :, None] >= 0)
    causal = torch.ones(T, T, dtype=torch.bool, device=segment_BT.device).tril()
    return ((own | prompt) & causal)[:, None]


@dataclass(frozen=True, slots=True)
class Laid:
    """Rows side by side, padded to the longest; `source_M` counts flattened columns."""

    ids_BT: Tensor
    pos_BT: Tensor
    segment_BT: Tensor  # -1 on padding
    source_M: Tensor


def lay_out(rows: Sequence[Row], pad_id: int) -> Laid:
    T = max(len(row.ids_T) for row in rows)
    ids_BT = torch.full((len(rows), T), pad_id)
    pos_BT = torch.zeros(len(rows), T, dtype=torch.long)
    segment_BT = torch.full((len(rows), T), -1)
    for b, row in enumerate(rows):
        n = len(row.ids_T)
        ids_BT[b, :n], pos_BT[b, :n], segment_BT[b, :n] = row.ids_T, row.pos_T, row.segment_T
    return Laid(ids_BT, pos_BT, segment_BT, torch.cat([row.source_M + b * T for b, row in enumerate(rows)]))


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
