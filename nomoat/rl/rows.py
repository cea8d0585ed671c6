"""Rows for the update: a prompt once, and behind it several of its completions that can't see each other.

So the rollouts of a group share one copy of their prompt in the update as they did in sampling.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nomoat.rl.reward import Group, Judged

ROW_TOKENS = 256  # a row takes completions of its group until it is about this long
MICRO_TOKENS = 8192  # tokens of one forward and backward pass


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt and completions of it.  `source_M` is the column whose hidden state predicts `target_M`."""

    ids_T: Tensor
    pos_T: Tensor
    segment_T: Tensor  # 0 the prompt, 1 … the completions
    source_M: Tensor
    target_M: Tensor
    members: Group  # whose tokens follow each other in the _M fields


def pack(groups: Sequence[Group]) -> list[Row]:
    """Rows of whole completions behind their prompt; every sampled token is a target exactly once."""
    rows = []
    for group in groups:
        n_prompt = group[0].rollout.n_prompt
        members: list[Judged] = []
        used = n_prompt
        for judged in group:
            n_columns = judged.rollout.length - 1  # the last token predicts nothing
            if members and used + n_columns > ROW_TOKENS:
                rows.append(_row(members))
                members, used = [], n_prompt
            members.append(judged)
            used += n_columns
        rows.append(_row(members))
    return rows


def _row(members: Sequence[Judged]) -> Row:
    prompt_T = members[0].rollout.prompt_T
    P = column = len(prompt_T)
    ids, pos, segment, source = [prompt_T], [torch.arange(P)], [torch.zeros_like(prompt_T)], []
    for number, judged in enumerate(members, 1):
        n = judged.rollout.length - 1
        ids.append(judged.rollout.ids_T[:-1])
        pos.append(torch.arange(P, P + n))
        segment.append(torch.full((n,), number))
        source += [torch.tensor([P - 1]), torch.arange(column, column + n)]
        column += n
    return Row(
        ids_T=torch.cat(ids),
        pos_T=torch.cat(pos),
        segment_T=torch.cat(segment),
        source_M=torch.cat(source),
        target_M=torch.cat([judged.rollout.ids_T for judged in members]),
        members=tuple(members),
    )


def chunks(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of similar length together, so that little is padded; at most MICRO_TOKENS a chunk."""
    out: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: -len(row.ids_T)):
        longest = len(out[-1][0].ids_T) if out else 0
        alike = len(row.ids_T) > 0.8 * longest
        if out and alike and longest * (len(out[-1]) + 1) <= MICRO_TOKENS:
            out[-1].append(row)
        else:
            out.append([row])
    return out


@dataclass(frozen=True, slots=True)
class PaddedRows:
    """Rows side by side on a device, padded to the longest; the _M fields end to end."""

    ids_BT: Tensor
    pos_BT: Tensor
    mask: Tensor  # (B, 1, T, T), true where a query may attend to a key
    source_M: Tensor  # in flattened columns
    target_M: Tensor
    members: Group


def pad(rows: Sequence[Row], device: torch.device) -> PaddedRows:
    B, T = len(rows), max(len(row.ids_T) for row in rows)
    ids_BT = torch.zeros(B, T, dtype=torch.long)  # padding is any id: it sees itself alone, and nobody sees it
    pos_BT = torch.zeros(B, T, dtype=torch.long)
    segment_BT = torch.full((B, T), -1)
    for b, row in enumerate(rows):
        n = len(row.ids_T)
        ids_BT[b, :n] = row.ids_T
        pos_BT[b, :n] = row.pos_T
        segment_BT[b, :n] = row.segment_T
    return PaddedRows(
        ids_BT=ids_BT.to(device),
        pos_BT=pos_BT.to(device),
        mask=group_mask(segment_BT.to(device)),
        source_M=torch.cat([row.source_M + b * T for b, row in enumerate(rows)]).to(device),
        target_M=torch.cat([row.target_M for row in rows]).to(device),
        members=tuple(judged for row in rows for judged in row.members),
    )


def group_mask(segment_BT: Tensor) -> Tensor:
    """(B, 1, T, T): a completion sees its prompt (segment 0) and its own past; padding (-1) sees itself."""
    T = segment_BT.shape[1]
    own = segment_BT[:, :, None] == segment_BT[:, None, :]
    prompt = (segment_BT[:, None, :] == 0) & (segment_BT[:, :, None] >= 0)
    causal = torch.ones(T, T, dtype=torch.bool, device=segment_BT.device).tril()
    return ((own | prompt) & causal)[:, None]
