"""Talk that reinforcement is not to forget: its cross entropy is added to the loss of a step."""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nomoat.data.conversation import conversations, exchange
from nomoat.data.dialogue import earlier
from nomoat.data.packing import Batch, Packed
from nomoat.data.shards import Shard
from nomoat.model.loss import cross_entropy
from nomoat.model.transformer import Transformer
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import Conversation, Rendered, render_latest
from nomoat.train.objective import document_mask

ROW_TOKENS = 256


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
    batch = rows(fitting, longest, seed)
    device = model.device
    h_BTD, _ = model.hidden(batch.ids_BT.to(device), mask=document_mask(batch.doc_BT.to(device)))
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
        talks.append([*earlier(levels, rng, "train"), *exchange(rng, "train")] if i % 2 else talk)
    return talks


def rows(rendered: Sequence[Rendered], T: int, seed: int) -> Batch:
    """Conversations of at most `T` tokens side by side in rows, packed as a stage's documents are."""
    tokens = np.concatenate([r.ids for r in rendered])
    trained = np.concatenate([r.trained for r in rendered])
    offsets = np.cumsum([0, *(len(r.ids) for r in rendered)])
    packed = Packed({"talk": Shard(tokens, trained, offsets)}, {"talk": 1.0}, T, seed)
    return packed.batch(0, packed.rows["talk"].n_rows)
