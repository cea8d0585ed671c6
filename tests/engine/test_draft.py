"""Guesses change how fast tokens come, never which ones."""

import random
import time

import pytest
import torch
from behind import random_model
from laws import alone, bits, request, said, whole
from shapes import shape, varied

from nomoat.engine.draft import Pace, by_lookup
from nomoat.engine.engine import Engine, Limits
from nomoat.engine.request import Request, Sampling

SPEC = shape(
    vocab_size=40, n_layers=2, d_model=32, n_heads=2, d_nope=8, d_rope=4, d_value=8, d_kv_latent=16, d_ffn=48,
    n_mtp=1, context=160,
)  # fmt: skip


def test_lookup_finds_what_followed_last_time():
    assert by_lookup([1, 2, 3, 4, 5, 9, 1, 2, 3]) == [4, 5, 9, 1, 2, 3]
    assert by_lookup([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], 1) == [5]  # the latest
    assert by_lookup([1, 2, 3, 4]) == []
    assert by_lookup([1]) == []


def written(model, drafts: str, temperature: float, compiled: bool) -> tuple[list, Pace]:
    engine = Engine(model, Limits(rows=3), drafts=drafts, compiled=compiled)
    how = {"sampling": Sampling(temperature=temperature), "stop_ids": frozenset([39])}
    for key, prompt in enumerate(([3, 4, 5] * 9, [7], [8, 9] * 20)):
        engine.submit(Request(prompt, 1000, key=key, **how))
    tokens = []
    while engine.busy:
        engine.pace.guessing = True  # whatever it costs
        tokens += engine.step()
    found = sorted(said(tokens).items())
    ids = [(request, token.id, token.stop) for request, samples in found for token in samples[0]]
    return ids, engine.pace


@pytest.mark.parametrize("temperature", [0.0, 0.2])
@pytest.mark.parametrize("drafts", ["lookup", "mtp"])
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
def test_guesses_change_no_token(drafts, temperature, compiled):
    """Up to the end of the context; at temperatures at which a random model repeats itself."""
    model = random_model(SPEC)
    plain, _ = written(model, "off", temperature, compiled)
    guessed, pace = written(model, drafts, temperature, compiled)
    assert guessed == plain
    assert pace.guessed > 50
    assert pace.accepted > 20 or drafts == "mtp"  # whose random weights guess by chance


@pytest.mark.parametrize("drafts", ["lookup", "mtp"])
def test_guesses_change_no_bit(drafts):
    """Also where tokens are chosen by more than temperature, and beside prompts that are still read."""
    model, draw = random_model(SPEC), random.Random(5)
    quiet = Engine(model)
    for _ in range(4):
        engine = Engine(model, Limits(rows=3, step_tokens=draw.choice((3, 20, 99))), drafts=drafts)
        asked = [request(draw, SPEC, [[3, 4, 5] * 9, [8, 9] * 20]) for _ in range(4)]
        numbers, tokens = [engine.submit(one) for one in asked], []
        while engine.busy:
            engine.pace.guessing = True
            tokens += engine.step()
            whole(engine)
        found = said(tokens)
        for number, one in zip(numbers, asked):
            assert bits(found[number]) == bits(alone(quiet, one))


@pytest.mark.check
@pytest.mark.parametrize("drafts", ["off", "lookup", "mtp"])
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
def test_the_distribution_is_that_of_the_model(drafts, compiled):
    """Chi-square of the second and of the third new id, which stand behind guesses, against exact sums."""
    model, prompt, n = random_model(varied(SPEC, vocab_size=12)), [3, 4, 5] * 7, 12_000 if compiled else 2_000
    temperature = 2.0
    with torch.no_grad():
        rows = torch.tensor([[*prompt, a, b] for a in range(12) for b in range(12)])
        p = (model(rows)[:, -3:] / temperature).double().softmax(-1).view(12, 12, 3, 12)
    second = torch.einsum("a,ab->b", p[0, 0, 0], p[:, 0, 1])
    third = torch.einsum("a,ab,abc->c", p[0, 0, 0], p[:, 0, 1], p[:, :, 2])
    engine = Engine(model, Limits(rows=4), drafts=drafts, compiled=compiled)
    numbers = [engine.submit(Request(prompt, 3, key=key, sampling=Sampling(temperature))) for key in range(n)]
    tokens = []
    while engine.busy:
        engine.pace.guessing = True
        tokens += engine.step()
    found = said(tokens)
    for place, expected in ((1, second), (2, third)):
        ids = torch.tensor([found[number][0][place].id for number in numbers])
        counts = torch.bincount(ids, minlength=12)
        chi_square = ((counts - n * expected) ** 2 / (n * expected)).sum().item()
        assert chi_square < 11 + 4 * 22**0.5
    assert drafts == "off" or engine.pace.accepted > 5


def test_guessing_goes_on_while_it_is_faster():
    for seconds_with, expected in ((1.0, True), (3.0, False)):
        pace, guessed = Pace(), 0
        for _ in range(480):
            pace.began = time.perf_counter() - (seconds_with if pace.guessing else 2.0)
            pace.end(1)
            guessed += pace.guessing == expected
        assert guessed > 400
