"""Talk that reinforcement is not to forget: its cross entropy is added to the loss of a step."""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from nomoat.data.conversation import conversations, exchange
from nomoat.data.dialogue import earlier
from nomoat.data.packing import Batch
from nomoat.model.loss import IGNORED, cross_entropy
from nomoat.model.transformer import Transformer
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import Conversation, Rendered, render_latest
from nomoat.train.objective import document_mask

ROW_TOKENS = 256
NOBODY = -1  # the document of padding


@dataclass(frozen=True, slots=True)
class Kept:
    """What the talk of a step was: its cross entropy in nats a token, and its columns, padding included."""

    loss: float
    tokens: int
    width: int


def gradient(
    model: Transformer,
    tokenizer: Tokenizer,
    levels: Mapping[str, Sequence[int]],
    n: int,
    weight: float,
    seed: int,
) -> Kept | None:
    """The gradient of `weight` times the mean cross entropy of the replies in `n` conversations, half of them
    behind problems of `levels`; accumulated beside the policy's.  None where none fits into the context."""
    longest = min(ROW_TOKENS, model.spec.context)
    rendered = render_latest(tokenizer, drawn(levels, n, seed), longest, generate=False)
    fitting = [r for r in rendered if len(r.ids) <= longest]
    if not fitting:
        return None
    batch = rows(fitting, longest)
    device = model.device
    h_BTD, _ = model.hidden(
        batch.ids_BT.to(device), mask=document_mask(batch.doc_BT.to(device))
    )
    h_MD = model.final(h_BTD).flatten(0, 1)
    loss, _ = cross_entropy(h_MD, model.head.weight, batch.targets_BT.to(device).flatten())
    (weight * loss).backward()
    B, T = batch.ids_BT.shape
    return Kept(float(loss.detach()), B * T, T)


def drawn(levels: Mapping[str, Sequence[int]], n: int, seed: int) -> list[Conversation]:
    """`n` conversations that end with talk, every other one behind what `earlier` draws."""
    talks = []
    for i, talk in enumerate(itertools.islice(conversations(seed), n)):
        rng = random.Random(f"kept/{seed}/{i}")
        talks.append(
            [*earlier(levels, rng, "train"), *exchange(rng, "train")] if i % 2 else talk
        )
    return talks


def rows(rendered: Sequence[Rendered], widest: int) -> Batch:
    """Conversations of at most `widest` tokens side by side in rows, the long ones first."""
    left = sorted(rendered, key=lambda r: len(r.ids), reverse=True)
    T = min(widest, sum(len(r.ids) for r in left))
    lines: list[list[Rendered]] = []
    for r in left:
        line = next((line for line in lines if sum(len(q.ids) for q in [*line, r]) <= T), None)
        if line is None:
            lines.append([r])
        else:
            line.append(r)
    B = len(lines)
    ids_BT = torch.zeros(B, T, dtype=torch.long)
    targets_BT = torch.full((B, T), IGNORED)
    doc_BT = torch.full((B, T), NOBODY, dtype=torch.int32)
    for b, line in enumerate(lines):
        start = 0
        for number, r in enumerate(line):
            end = start + len(r.ids)
            ids_BT[b, start:end] = torch.tensor(r.ids)
            doc_BT[b, start:end] = number
            ahead = [
                id if trained else IGNORED for id, trained in zip(r.ids[1:], r.trained[1:])
            ]
            targets_BT[b, start : end - 1] = torch.tensor(ahead)
            start = end
    return Batch(ids_BT, targets_BT, doc_BT)
