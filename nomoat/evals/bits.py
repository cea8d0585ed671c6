"""Bits per byte of held-out text."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from nomoat.data import documents, sources
from nomoat.model.loss import IGNORED
from nomoat.model.transformer import Transformer
from nomoat.tokenizer.bpe import Tokenizer


def held_out(n_bytes: int | None = None) -> dict[str, list[str]]:
    """Held-out texts by language, each language cut to about `n_bytes`."""
    held: dict[str, list[str]] = {}
    for document in documents.first(sources.shipped("heldout"), n_bytes):
        held.setdefault(document.lang, []).append(document.text)
    return held


@torch.inference_mode()
def bits_per_byte(model: Transformer, tokenizer: Tokenizer, texts: Iterable[str], rows: int = 32) -> float:
    """-log2 p(text) / bytes: windows of the model's context, each cold-started from <|bos|> or its own first token."""
    T, nats, n_bytes = model.spec.context, 0.0, 0
    windows = []
    for text, ids in zip(texts, tokenizer.encode_batch(list(texts))):
        n_bytes += len(text.encode())
        ids = [tokenizer.layout.bos_id, *ids]
        windows += [ids[start : start + T + 1] for start in range(0, len(ids) - 1, T)]
    windows.sort(key=len)
    for start in range(0, len(windows), rows):
        chunk = windows[start : start + rows]
        ids_BT = pad_sequence([torch.tensor(window[:-1]) for window in chunk], True, tokenizer.layout.pad_id)
        ids_BT = ids_BT.to(model.device)
        targets_BT = pad_sequence([torch.tensor(window[1:]) for window in chunk], True, IGNORED).to(model.device)
        logits_MV = model(ids_BT).flatten(0, 1)
        nats += float(F.cross_entropy(logits_MV, targets_BT.flatten(), ignore_index=IGNORED, reduction="sum"))
    return nats / math.log(2) / n_bytes
