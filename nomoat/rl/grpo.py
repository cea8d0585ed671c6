"""Group relative policy optimisation (arXiv 2402.03300) with the defaults that later work settled on.

Notation: A_i = r_i - mean(r) over the G rollouts of one problem, no division by the standard deviation; every token of
every rollout weighs the same (Dr. GRPO, arXiv 2503.20783); no KL term; groups that are all right or all wrong carry
no signal and are left out (DAPO, arXiv 2503.14476).

The rollouts of a group share one copy of their prompt in the update as they did in sampling: a row holds the prompt
once and behind it several completions that can't see each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nomoat.model.transformer import Transformer
from nomoat.rl.rollout import Rollout
from nomoat.train.loss import log_prob_objective

ROW_TOKENS = 256  # a row takes completions of its group until it is about this long
MICRO_TOKENS = 8192  # tokens of one forward and backward pass


def advantages(rewards_G: Sequence[float]) -> list[float]:
    """A_i = r_i - mean(r): zero for a group that is all right or all wrong."""
    mean = sum(rewards_G) / len(rewards_G)
    return [r - mean for r in rewards_G]


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt and completions of it.  `source` is the column whose hidden state predicts `target`."""

    ids_T: Tensor
    pos_T: Tensor
    segment_T: Tensor  # 0 the prompt, 1 … the completions
    source_M: Tensor
    target_M: Tensor
    advantage_M: Tensor
    logp_old_M: Tensor


def pack(groups: Sequence[Sequence[Rollout]], advantages: Sequence[Sequence[float]]) -> list[Row]:
    """Rows of whole completions behind their prompt; every sampled token is a target exactly once."""
    rows = []
    for group, values in zip(groups, advantages):
        prompt_T = group[0].ids_T[: group[0].n_prompt]
        pending: list[tuple[Rollout, float]] = []
        used = len(prompt_T)
        for rollout, value in zip(group, values):
            if pending and used + rollout.length - 1 > ROW_TOKENS:
                rows.append(_row(prompt_T, pending))
                pending, used = [], len(prompt_T)
            pending.append((rollout, value))
            used += rollout.length - 1
        rows.append(_row(prompt_T, pending))
    return rows


def _row(prompt_T: Tensor, members: Sequence[tuple[Rollout, float]]) -> Row:
    P = len(prompt_T)
    ids, pos, segment = [prompt_T], [torch.arange(P)], [torch.zeros(P, dtype=torch.long)]
    source, target, advantage, logp_old = [], [], [], []
    column = P
    for number, (rollout, value) in enumerate(members, 1):
        new_T = rollout.ids_T[P:]
        n = len(new_T) - 1  # the last token predicts nothing
        ids.append(new_T[:-1])
        pos.append(torch.arange(P, P + n))
        segment.append(torch.full((n,), number))
        source.append(torch.cat((torch.tensor([P - 1]), torch.arange(column, column + n))))
        target.append(new_T)
        advantage.append(torch.full((n + 1,), value))
        logp_old.append(rollout.logp_T[P:])
        column += n
    return Row(*map(torch.cat, (ids, pos, segment, source, target, advantage, logp_old)))


@dataclass(frozen=True, slots=True)
class Update:
    """What one policy-gradient pass measured; means over the sampled tokens."""

    loss: float
    entropy: float
    drift: float  # max |log p now - log p when drawn|: zero but for rounding while the policy is the sampler
    tokens: int  # columns that were computed, padding included
    attended: float  # mean columns that a computed token attended to, padding included


def policy_gradient(
    model: Transformer, rows: Sequence[Row], normaliser: float, pad_id: int, *, clip: tuple[float, float] | None = None
) -> Update:
    """Gradients of -1/normaliser sum_t A_t w_t, w_t = pi(t) / pi_old(t), accumulated over all rows.

    On-policy w_t = 1 and the gradient is REINFORCE's.  `clip` = (below, above) bounds w_t as PPO does (arXiv
    1707.06347, eq. 7; unequal bounds: DAPO) and matters only where the same rollouts are used more than once.
    """
    device = model.embed.device
    loss, entropy, drift, n_targets, tokens, attended = 0.0, 0.0, 0.0, 0, 0, 0.0
    for chunk in chunks(rows):
        laid = lay_out(chunk, pad_id)
        target_M = torch.cat([row.target_M for row in chunk]).to(device)
        advantage_M = torch.cat([row.advantage_M for row in chunk]).to(device)
        logp_old_M = torch.cat([row.logp_old_M for row in chunk]).to(device)

        def coefficient(logp: Tensor, rows: slice, a=advantage_M, old=logp_old_M) -> Tensor:
            if clip is None:
                return -a[rows] / normaliser
            w = (logp - old[rows]).exp()
            pushed_out = torch.where(a[rows] > 0, w > 1 + clip[1], w < 1 - clip[0])
            return torch.where(pushed_out, 0.0, -a[rows] * w / normaliser)

        mask = group_mask(laid.segment_BT.to(device))
        h_BTD, _ = model.hidden(laid.ids_BT.to(device), laid.pos_BT.to(device), mask)
        h_MD = model.final(h_BTD).flatten(0, 1).index_select(0, laid.source_M.to(device))
        objective, logp_M, entropy_M = log_prob_objective(h_MD, model.head, target_M, coefficient, entropy=True)
        objective.backward()
        loss -= float((advantage_M * (logp_M - logp_old_M).exp()).sum()) / normaliser
        entropy += float(entropy_M.sum())
        drift = max(drift, float((logp_M - logp_old_M).abs().max()))
        n_targets += len(target_M)
        tokens += laid.ids_BT.numel()
        attended += laid.ids_BT.numel() * laid.ids_BT.shape[1]
    return Update(loss, entropy / max(n_targets, 1), drift, tokens, attended / max(tokens, 1))


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
