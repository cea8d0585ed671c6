"""What reinforcement is not to forget is added to the loss of a step: talk, by its cross entropy; and how a
given model replies to general questions, by how far it is from what it was."""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nomoat.data.conversation import conversations, exchange
from nomoat.data.dialogue import earlier
from nomoat.data.packing import Batch, Packed
from nomoat.data.shards import Shard
from nomoat.model import counts
from nomoat.model.loss import IGNORED, cross_entropy, divergence
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Transformer
from nomoat.parallel.mesh import ALONE, Mesh
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import Conversation, Rendered, render_latest
from nomoat.train.microbatches import padding
from nomoat.train.objective import document_mask

ROW_TOKENS = 256
REPLY_TOKENS = 128  # of a row of replies: one of them, about
SOURCE = "talk"  # its name enters the order of the rows


@dataclass(frozen=True, slots=True)
class Kept:
    """What a step kept: its loss in nats a token, and its columns, padding included."""

    loss: float
    tokens: int
    width: int
    judged: bool  # a reference read it, too

    def flops(self, spec: Spec, attended: float, kernels: Kernels | None = None) -> float:
        """Of all its columns, that attended to so many."""
        read = counts.flops_forward(spec, attended, kernels) if self.judged else 0.0
        return self.tokens * (counts.flops_train(spec, attended, kernels) + read)


def gradient(
    model: Transformer,
    every: Batch,
    weight: float,
    *,
    reference: Transformer | None = None,
    mesh: Mesh = ALONE,
) -> Kept:
    """The gradient of `weight` times the mean loss of the replies in some rows, accumulated beside the
    policy's, over this rank's share of them: their cross entropy, or what the model differs there from a
    reference (learning without forgetting, arXiv 1606.09282), KL(reference || model), which is nothing where
    nothing has changed."""
    n_rows, T = every.ids_BT.shape
    share = mesh.share(n_rows)
    batch = _some(every, share, model.device)
    mask, targets_M = document_mask(batch.doc_BT), batch.targets_BT.flatten()
    h_MD = _read(model, batch, mask)
    if reference is None:
        loss, _ = cross_entropy(h_MD, model.head.weight, targets_M)
    else:
        columns_M = (targets_M != IGNORED).nonzero().squeeze(1)
        with torch.no_grad():
            wanted_MD = _read(reference, batch, mask)[columns_M]
        heads = model.head.weight, reference.head.weight
        loss = divergence(h_MD[columns_M], heads[0], wanted_MD, heads[1], reverse=False)
    loss = _trained(batch) / max(_trained(every), 1) * loss
    (weight * loss).backward()
    (kept,) = mesh.sums(float(loss.detach()))
    return Kept(kept, len(share) * T, T, judged=reference is not None)


def _read(model: Transformer, batch: Batch, mask: Tensor) -> Tensor:
    h_BTD, _ = model.hidden(batch.ids_BT, mask=mask)
    return model.final(h_BTD).flatten(0, 1)


def _trained(batch: Batch) -> int:
    return int((batch.targets_BT != IGNORED).sum())


def _some(every: Batch, share: range, device: torch.device) -> Batch:
    """A rank's rows; a rank without any passes padding along."""
    batch = every if share else padding(every.ids_BT.shape[1])
    rows = slice(share.start, share.stop) if share else slice(None)
    tensors = batch.ids_BT, batch.targets_BT, batch.doc_BT
    return Batch(*(tensor[rows].to(device) for tensor in tensors))


def longest(spec: Spec, tokens: int = ROW_TOKENS) -> int:
    """Tokens of a row."""
    return min(tokens, spec.context)


def talk(
    tokenizer: Tokenizer, levels: Mapping[str, Sequence[int]], n: int, T: int, seed: int
) -> Batch | None:
    """Rows of `T` tokens with the latest turns of `n` conversations, half of them behind problems of
    `levels`; None where none fits."""
    rendered = render_latest(tokenizer, drawn(levels, n, seed), T, generate=False)
    fitting = [r for r in rendered if len(r.ids) <= T]
    return rows(fitting, T, seed) if fitting else None


def drawn(levels: Mapping[str, Sequence[int]], n: int, seed: int) -> list[Conversation]:
    """`n` conversations that end with talk, every other one behind what `earlier` draws."""
    talks = []
    for i, talk in enumerate(itertools.islice(conversations(seed), n)):
        rng = random.Random(f"kept/{seed}/{i}")
        talks.append([*earlier(levels, rng, "train"), *exchange(rng, "train")] if i % 2 else talk)
    return talks


def rows(rendered: Sequence[Rendered], T: int, seed: int) -> Batch:
    """Conversations of at most `T` tokens side by side in rows."""
    every = packed(rendered, T, seed)
    return every.batch(0, every.rows[SOURCE].n_rows)


def packed(rendered: Sequence[Rendered], T: int, seed: int) -> Packed:
    """Conversations packed as a stage's documents are."""
    tokens = np.concatenate([r.ids for r in rendered])
    trained = np.concatenate([r.trained for r in rendered])
    offsets = np.cumsum([0, *(len(r.ids) for r in rendered)])
    return Packed({SOURCE: Shard(tokens, trained, offsets)}, {SOURCE: 1.0}, T, seed)
