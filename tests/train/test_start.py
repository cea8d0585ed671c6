"""First weights from counts."""

import math

import numpy as np
import pytest
import torch
from shapes import shape

from nomoat.model.transformer import Transformer
from nomoat.train.start import from_bigrams

V = 40
SPEC = shape(
    vocab_size=V, n_layers=2, d_model=32, n_heads=2, d_nope=8, d_rope=8, d_value=16, d_kv_latent=16, d_ffn=32
)


def markov(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, transitions) of a chain in which each token has a few likely successors."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.full(V, 0.15), size=V)
    out = [0]
    for u in rng.random(n):
        out.append(min(int(np.searchsorted(table[out[-1]].cumsum(), u)), V - 1))
    return np.array(out, np.uint16), table


def nats(model: Transformer, tokens: np.ndarray) -> float:
    ids_BT = torch.from_numpy(tokens[: len(tokens) // 64 * 64].astype(np.int64)).view(-1, 64)
    logits_BTV = model(ids_BT[:, :-1])
    return float(torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten()))


@torch.no_grad()
def counted(model: Transformer, tokens: np.ndarray, seed: int) -> int:
    embed, head, flops = from_bigrams(model.spec, tokens, seed)
    model.embed.weight.copy_(embed)
    model.head.weight.copy_(head)
    return flops


@torch.no_grad()
def test_the_untrained_model_predicts_as_the_bigrams_do():
    tokens, table = markov(60_000, 0)
    train, held = tokens[:50_000], tokens[50_000:]
    model = Transformer(SPEC).initialise(0)
    noise = nats(model, held)
    assert counted(model, train, 0) > 0
    entropy = -sum(math.log(table[a, b]) for a, b in zip(held, held[1:])) / (len(held) - 1)
    frequencies = np.bincount(train, minlength=V) / len(train)
    unigram = -sum(math.log(frequencies[b]) for b in held[1:]) / (len(held) - 1)
    assert entropy < nats(model, held) < entropy + 0.4 * (unigram - entropy)
    assert unigram < noise


def test_every_row_has_the_length_of_a_row_of_noise():
    model = Transformer(SPEC).initialise(0)
    counted(model, markov(5000, 1)[0], 0)
    assert torch.allclose(model.embed.weight.norm(dim=1), torch.ones(V), atol=1e-5)


def test_a_token_that_never_occurs_stays_a_number():
    model = Transformer(SPEC).initialise(0)
    counted(model, np.arange(10, dtype=np.uint16).repeat(20), 0)
    assert model.embed.weight.isfinite().all()
    assert model.head.weight.isfinite().all()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_weights(seed):
    one, other = Transformer(SPEC).initialise(0), Transformer(SPEC).initialise(1)
    for model in (one, other):
        counted(model, markov(3000, 2)[0], seed)
    assert torch.allclose(one.embed.weight, other.embed.weight, atol=1e-4)
