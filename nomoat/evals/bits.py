"""Bits per byte of held-out text."""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from nomoat.data import documents, sources
from nomoat.model.loss import IGNORED
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer
from nomoat.stats import grouped
from nomoat.tokenizer.bpe import Tokenizer

WINDOW = 1024  # tokens of a window at most, whatever the model's context
COLUMNS = 2**26  # of windows side by side, times the vocabulary
LOGITS = 2**24  # that exist at one time


def window(spec: Spec) -> int:
    """Tokens that a text is cut into."""
    return min(spec.context, WINDOW)


def held_out(n_bytes: int | None = None) -> dict[str, list[str]]:
    """Held-out texts by language, each language cut to about `n_bytes`."""
    held = documents.first(sources.shipped_files("heldout"), n_bytes)
    return grouped((document.lang, document.text) for document in held)


@torch.inference_mode()
def bits_per_byte(model: Transformer, tokenizer: Tokenizer, texts: Iterable[str], rows: int = 32) -> float:
    """-log2 p(text) / bytes: windows of the model's context, at most WINDOW tokens, each begun by <|bos|> or
    its own first token."""
    texts = list(texts)
    T = window(model.spec)
    rows = max(min(rows, COLUMNS // (T * model.spec.vocab_size)), 1)
    windows = []
    for ids in tokenizer.encode_batch(texts):
        ids = [tokenizer.layout.bos_id, *ids]
        for start in range(0, len(ids) - 1, T):
            windows.append(ids[start : start + T + 1])
    windows.sort(key=len)
    nats = 0.0
    for start in range(0, len(windows), rows):
        nats += _nats(model, windows[start : start + rows], tokenizer.layout.pad_id)
    n_bytes = sum(len(text.encode()) for text in texts)
    return nats / math.log(2) / n_bytes


def _nats(model: Transformer, windows: Sequence[list[int]], pad_id: int) -> float:
    """-ln p of the windows behind their first token."""
    ids_BT = _padded(model, [ids[:-1] for ids in windows], pad_id)
    targets_BT = _padded(model, [ids[1:] for ids in windows], IGNORED)
    h_BTD, _ = model.hidden(ids_BT)
    at_once = max(LOGITS // model.spec.vocab_size, 1)
    rows = h_BTD.flatten(0, 1).split(at_once)
    targets = targets_BT.flatten().split(at_once)
    nats = 0.0
    for h, target_M in zip(rows, targets):
        logits_MV = model.logits(h)
        nats += float(F.cross_entropy(logits_MV, target_M, ignore_index=IGNORED, reduction="sum"))
    return nats


def _padded(model: Transformer, rows: Sequence[list[int]], value: int) -> Tensor:
    return pad_sequence(list(map(torch.tensor, rows)), True, value).to(model.device)
