"""Decoding tokens a second at one, some and many rows: prompts of their own, temperature 1, no early end."""

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.gpu import peer
from benchmarks.gpu.measure import (
    DTYPES,
    Place,
    Result,
    Spent,
    large_spec,
    model_on,
    random_ids,
    raw_model,
    shapes,
    spend,
)
from nomoat.engine.generate import sample
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer

N_PROMPT, N_NEW = 32, 128
BESIDE_ROWS, TIMES = 64, 10  # times faster is the target
DRY_CASES = (("bf16", 1), ("fp32", 8))
CASES = (("bf16", 1), ("bf16", 64), ("bf16", 512), ("fp32", 512))  # rollouts are sampled in fp32


def decoding(place: Place) -> Iterator[Result]:
    spec = large_spec(place.dry)
    n_new, cases, n_beside = N_NEW, CASES, BESIDE_ROWS
    if place.dry:
        n_new, cases, n_beside = 8, DRY_CASES, 8
    for words, rows in cases:
        model = model_on(place.device, spec, DTYPES[words]).eval()
        prompts = random_ids(spec, rows, N_PROMPT).tolist()
        decode(model, prompts, 8)
        call = partial(decode, model, prompts, n_new)
        spent = spend(place, call)
        yield from speed(f"{words}, {rows} rows", rows, n_new, spent)
    for name, shape in shapes(place.dry).items():
        yield from beside(place, name, shape.spec, n_beside, n_new)


def beside(place: Place, name: str, spec: Spec, rows: int, n_new: int) -> Iterator[Result]:
    """How many times faster than transformers' generate, as many rows, bf16."""
    what = f"{name}, {rows} rows beside transformers"
    if peer.absent():
        yield Result("decoding", what, "not there", "", "pip install transformers")
        return
    model = raw_model(place, spec, torch.bfloat16).eval()
    prompts = random_ids(spec, rows, N_PROMPT).tolist()
    decode(model, prompts, 4)
    call = partial(decode, model, prompts, n_new)
    ours = spend(place, call, rounds=2).median
    del model, call
    other = peer.model_of(place, spec)
    few = peer.decoding_step(place, other, spec, N_PROMPT, 4)
    setting = peer.fastest(place, other, few)
    step = peer.decoding_step(place, other, spec, N_PROMPT, n_new)
    theirs = spend(place, partial(step, rows), rounds=2).median
    times = theirs / ours
    tokens = rows * n_new
    met = "" if place.dry else " reached" if times >= TIMES else " missed"
    note = f"{tokens / ours:,.0f} and {tokens / theirs:,.0f} tokens/s, its {setting}; target {TIMES}{met}"
    yield Result("decoding", what, times, "times", note)


def speed(name: str, rows: int, n_new: int, spent: Spent) -> Iterator[Result]:
    tokens = rows * n_new
    step = 1e3 * spent.median / n_new
    note = f"{N_PROMPT} + {n_new} tokens, {step:.2f} ms a step, prefill included"
    yield Result("decoding", name, tokens / spent.median, "tokens/s", note)
    joules = spent.joules / (tokens * len(spent.seconds))
    yield Result("decoding", f"{name}, energy", 1e6 * joules, "J/Mtoken", spent.energy())


def decode(model: Transformer, prompts: list[list[int]], n_new: int) -> torch.Tensor:
    groups = sample(model, prompts, max_new_tokens=n_new, seed=0, stop_ids=())
    return torch.stack([one.ids_T for group in groups for one in group])
