"""Rows for the update: a prompt once, and behind it several of its completions that can't see each other.

A row is a part of a group.  So the rollouts of a group share one copy of their prompt in the update as they
did in sampling.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nomoat.model import counts
from nomoat.model.transformer import Transformer
from nomoat.rl.reward import Group, Judged, flat

ROW_TOKENS = 224  # a row takes completions of its group until they are about this long
MICRO_TOKENS = 8192  # tokens of one forward and backward pass, at most
MICRO_BYTES = 0.75 * 2**30  # that they leave for the backward pass, about
PADDING, PROMPT = -1, 0  # segments of a row; its completions are those from 1 on


def pack(groups: Sequence[Group]) -> list[Group]:
    """Rows: the members of each share a prompt, and every sampled token is a target exactly once."""
    rows = []
    for group in groups:
        row = []
        for judged in group:
            if row and width([*row, judged]) - row[0].rollout.n_prompt > ROW_TOKENS:
                rows.append(tuple(row))
                row = []
            row.append(judged)
        rows.append(tuple(row))
    return rows


def width(row: Sequence[Judged]) -> int:
    """Columns of a row; the last token of a completion predicts nothing and needs none."""
    return row[0].rollout.n_prompt + sum(judged.rollout.length - 1 for judged in row)


def micro_tokens(model: Transformer) -> int:
    """Tokens of one pass: of a large model fewer."""
    each = counts.activation_bytes(model.spec, model.dtype.itemsize, recompute=model.kernels.recompute)
    return min(MICRO_TOKENS, max(int(MICRO_BYTES / each), 1))


def chunks(rows: Sequence[Group], most: int = MICRO_TOKENS) -> list[list[Group]]:
    """Rows of similar width together, so that little is padded; at most `most` tokens a chunk, or one row."""
    out = []
    widest = 0
    for row in sorted(rows, key=width, reverse=True):
        if out and width(row) > 0.8 * widest and widest * (len(out[-1]) + 1) <= most:
            out[-1].append(row)
        else:
            out.append([row])
            widest = width(row)
    return out


@dataclass(frozen=True, slots=True)
class PaddedRows:
    """Rows side by side on a device, padded to the widest; the _M fields end to end."""

    ids_BT: Tensor
    pos_BT: Tensor
    mask: Tensor  # (B, 1, T, T), true where a query may attend to a key
    source_M: Tensor  # the flattened column whose hidden state predicts the target
    target_M: Tensor
    members: Group  # whose tokens follow each other in the _M fields


def pad(rows: Sequence[Group], device: torch.device) -> PaddedRows:
    """Of no rows, one of padding: a pass that computes nothing, where others compute something."""
    B, T = max(len(rows), 1), max([1, *map(width, rows)])
    ids_BT = torch.zeros(B, T, dtype=torch.long)  # padding is any id: nobody else sees it
    pos_BT = torch.zeros_like(ids_BT)
    segment_BT = torch.full_like(ids_BT, PADDING)
    source = []
    for b, row in enumerate(rows):
        columns = _fill(row, ids_BT[b], pos_BT[b], segment_BT[b])
        source += [b * T + column for column in columns]
    members = tuple(flat(rows))
    return PaddedRows(
        ids_BT=ids_BT.to(device),
        pos_BT=pos_BT.to(device),
        mask=group_mask(segment_BT.to(device)),
        source_M=torch.tensor(source, dtype=torch.long, device=device),
        target_M=joined([judged.rollout.ids_T for judged in members], torch.long).to(device),
        members=members,
    )


def joined(parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """End to end; of nothing, nothing."""
    return torch.cat([torch.empty(0, dtype=dtype), *parts])


def _fill(row: Group, ids_T: Tensor, pos_T: Tensor, segment_T: Tensor) -> list[int]:
    """Writes a row into its tensors; gives the columns that predict its members' tokens."""
    n_prompt = end = row[0].rollout.n_prompt
    ids_T[:n_prompt] = row[0].rollout.prompt_T
    pos_T[:n_prompt] = torch.arange(n_prompt)
    segment_T[:n_prompt] = PROMPT
    source = []
    for number, judged in enumerate(row, PROMPT + 1):
        start = end
        end += judged.rollout.length - 1
        ids_T[start:end] = judged.rollout.ids_T[:-1]
        pos_T[start:end] = torch.arange(n_prompt, n_prompt + end - start)
        segment_T[start:end] = number
        source += [n_prompt - 1, *range(start, end)]
    return source


def hidden_at(
    model: Transformer, ids_BT: Tensor, pos_BT: Tensor | None, mask: Tensor, columns_M: Tensor
) -> Tensor:
    """(M, D) at the flattened columns, past the final norm: times the head, the logits of what comes next."""
    h_BTD, _ = model.hidden(ids_BT, pos_BT, mask)
    return model.final(h_BTD).flatten(0, 1).index_select(0, columns_M)


def group_mask(segment_BT: Tensor) -> Tensor:
    """(B, 1, T, T): a completion sees its prompt and its own past; padding sees itself."""
    T = segment_BT.shape[1]
    own = segment_BT[:, :, None] == segment_BT[:, None, :]
    prompt = (segment_BT[:, None, :] == PROMPT) & (segment_BT[:, :, None] != PADDING)
    causal = torch.ones(T, T, dtype=torch.bool, device=segment_BT.device).tril()
    return ((own | prompt) & causal)[:, None]
