"""Guesses change how fast tokens come, never which ones."""

import pytest
from behind import random_model
from shapes import shape

from nomoat.engine.draft import by_lookup
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


def written(model, drafts: str, temperature: float, compiled: bool) -> tuple[list, int]:
    engine = Engine(model, Limits(rows=3), drafts=drafts, compiled=compiled)
    how = {"sampling": Sampling(temperature=temperature), "stop_ids": frozenset([39])}
    for key, prompt in enumerate(([3, 4, 5] * 9, [7], [8, 9] * 20)):
        engine.submit(Request(prompt, 100, key=key, **how))
    tokens = []
    while engine.busy:
        engine.pace.guessing = True  # whatever it costs
        tokens += engine.step()
    return sorted((t.request, [u.id for u in tokens if u.request == t.request]) for t in tokens), engine.pace


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("drafts", ["lookup", "mtp"])
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
def test_guesses_change_no_token(drafts, temperature, compiled):
    model = random_model(SPEC)
    plain, _ = written(model, "off", temperature, compiled)
    guessed, pace = written(model, drafts, temperature, compiled)
    assert guessed == plain
    assert pace.guessed > 50
    assert pace.accepted > 0 or drafts == "mtp"  # whose random weights guess by chance
