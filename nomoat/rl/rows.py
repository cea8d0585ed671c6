"""Columns for the update: a prompt once, and behind all prompts of a pass their completions, without padding.

So the rollouts of a group share one copy of their prompt in the update as they did in sampling; attention
multiplies each completion with its prompt and itself alone (model/spans.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nomoat.model import counts
from nomoat.model.spans import Spans
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer
from nomoat.parallel.mesh import Mesh
from nomoat.rl import exchange
from nomoat.rl.reward import Group, Judged

ROW_TOKENS = 224  # of one row's completions, where rows are dealt to many ranks
MICRO_TOKENS = 8192  # tokens of one forward and backward pass, at most
MICRO_BYTES = 0.5 * 2**30  # that they leave for the backward pass, about
UNLIKE = 0.5  # of the longest prompt of a pass: a shorter one is in another, since prompts are laid out alike
PADDING, PROMPT = -1, 0  # segments of a row; its completions are those from 1 on


def passes(model: Transformer, groups: Sequence[Group], mesh: Mesh) -> list[list[Group]]:
    """The rows of each pass of this rank, as many passes as on any: of no rows some."""
    most = micro_tokens(model)
    dealt = exchange.deal(pack(groups, most, alone=mesh.data_world == 1), width, mesh)
    own = chunks(dealt, most)
    return own + [[]] * (mesh.most(len(own)) - len(own))


def pack(groups: Sequence[Group], most: int = MICRO_TOKENS, *, alone: bool = True) -> list[Group]:
    """Rows: a group, or parts of it that have `most` tokens or one member each; smaller ones, unless this
    rank is `alone`.  Every sampled token is a target exactly once.
    """
    rows = []
    for group in groups:
        n_prompt = group[0].rollout.n_prompt
        widest = most if alone else min(most, n_prompt + ROW_TOKENS)
        row = []
        for judged in group:
            if row and width([*row, judged]) > widest:
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
    return tokens_at_once(model.spec, model.dtype.itemsize, recompute=model.kernels.recompute)


def tokens_at_once(spec: Spec, itemsize: int, *, recompute: bool) -> int:
    each = counts.activation_bytes(spec, itemsize, recompute=recompute)
    return min(MICRO_TOKENS, max(int(MICRO_BYTES / each), 1))


def chunks(rows: Sequence[Group], most: int = MICRO_TOKENS) -> list[list[Group]]:
    """Rows with prompts of similar length together; at most `most` tokens a chunk, or one row."""
    out: list[list[Group]] = []
    held = 0
    for row in sorted(rows, key=lambda row: row[0].rollout.n_prompt, reverse=True):
        fits = held + width(row) <= most
        if out and fits and row[0].rollout.n_prompt >= UNLIKE * out[-1][0][0].rollout.n_prompt:
            out[-1].append(row)
            held += width(row)
        else:
            out.append([row])
            held = width(row)
    return out


@dataclass(frozen=True, slots=True)
class Columns:
    """One row (B = 1) of prompts and, behind them all, their completions; the _M fields end to end."""

    ids_BT: Tensor
    pos_BT: Tensor
    spans: Spans
    source_M: Tensor  # the column whose hidden state predicts the target
    target_M: Tensor
    members: Group  # whose tokens follow each other in the _M fields

    @property
    def attended(self) -> float:
        """Mean columns that one is multiplied with."""
        return self.spans.n_scores / self.ids_BT.shape[1]


def lay(rows: Sequence[Group], device: torch.device) -> Columns:
    """Of no rows, one column of padding: a pass that computes nothing, where others compute something."""
    prompts = [row[0].rollout.prompt_T for row in rows] or [torch.zeros(1, dtype=torch.long)]
    numbered = by_length(rows)
    members = tuple(judged for _, judged in numbered)
    own = [judged.rollout.ids_T for judged in members]
    begins = list(map(len, prompts))
    texts = [(number, judged.rollout.length - 1) for number, judged in numbered]
    columns = prompts + [ids_T[:-1] for ids_T in own]
    pos = [torch.arange(n) for n in begins]
    for number, n in texts:
        pos.append(torch.arange(n) + begins[number])
    ids_BT = torch.cat(columns)[None]
    pos_BT = torch.cat(pos)[None]
    return Columns(
        ids_BT=ids_BT.to(device),
        pos_BT=pos_BT.to(device),
        spans=Spans.of(begins, texts).to(device),
        source_M=sources(begins, texts).to(device),
        target_M=joined(own, torch.long).to(device),
        members=members,
    )


def by_length(rows: Sequence[Group]) -> list[tuple[int, Judged]]:
    """(number of its row, member), the longest first."""
    numbered = [(number, judged) for number, row in enumerate(rows) for judged in row]
    return sorted(numbered, key=lambda one: one[1].rollout.length, reverse=True)


def sources(begins: Sequence[int], texts: Sequence[tuple[int, int]]) -> Tensor:
    """For each text the last column of its prompt, then its own ones."""
    last = torch.tensor(begins).cumsum(0) - 1
    column = sum(begins)
    out = []
    for number, n in texts:
        out += [int(last[number]), *range(column, column + n)]
        column += n
    return torch.tensor(out, dtype=torch.long)


def joined(parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """End to end; of nothing, nothing."""
    return torch.cat([torch.empty(0, dtype=dtype), *parts])


def hidden_at(
    model: Transformer, ids_BT: Tensor, pos_BT: Tensor | None, mask: Tensor | Spans, columns_M: Tensor
) -> Tensor:
    """(M, D) at the flattened columns, past the final norm: times the head, the logits of what comes next."""
    h_BTD, _ = model.hidden(ids_BT, pos_BT, mask)
    return model.final(h_BTD.flatten(0, 1).index_select(0, columns_M))


def group_mask(segment_BT: Tensor) -> Tensor:
    """(B, 1, T, T): a completion sees its prompt and its own past; padding sees itself."""
    T = segment_BT.shape[1]
    own = segment_BT[:, :, None] == segment_BT[:, None, :]
    prompt = (segment_BT[:, None, :] == PROMPT) & (segment_BT[:, :, None] != PADDING)
    causal = torch.ones(T, T, dtype=torch.bool, device=segment_BT.device).tril()
    return ((own | prompt) & causal)[:, None]
