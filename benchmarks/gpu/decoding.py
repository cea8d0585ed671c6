"""Decoding tokens a second at one, some and many rows: prompts of their own, temperature 1, no early end."""

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.gpu.measure import DTYPES, Place, Result, Spent, large_spec, model_on, random_ids, spend
from nomoat.engine.generate import sample
from nomoat.model.transformer import Transformer

N_PROMPT, N_NEW = 32, 128
DRY_CASES = (("bf16", 1), ("fp32", 8))
CASES = (("bf16", 1), ("bf16", 64), ("bf16", 512), ("fp32", 512))  # rollouts are sampled in fp32


def decoding(place: Place) -> Iterator[Result]:
    spec = large_spec(place.dry)
    n_new = 8 if place.dry else N_NEW
    cases = DRY_CASES if place.dry else CASES
    for words, rows in cases:
        model = model_on(place.device, spec, DTYPES[words]).eval()
        prompts = random_ids(spec, rows, N_PROMPT).tolist()
        decode(model, prompts, 8)
        spent = spend(place, partial(decode, model, prompts, n_new))
        yield from speed(f"{words}, {rows} rows", rows, n_new, spent)


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
