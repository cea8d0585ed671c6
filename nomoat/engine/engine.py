"""The sampler: groups of rollouts and evaluations in waves of rows, and one stream for chat."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nomoat.config import ConfigError, DataError
from nomoat.engine.decoder import Decoder
from nomoat.engine.sampling import choose, uniforms
from nomoat.model.transformer import Transformer

KEEP = 0.75  # finished rows leave when fewer than this share is alive: copying the cache costs about one step


@dataclass(frozen=True, slots=True)
class Sample:
    """One continuation.  `ids_T` holds the new ids, the stop id included.

    `logp_T` (float32) is each id's log-probability under the policy at the sampling temperature.
    """

    ids_T: Tensor
    logp_T: Tensor
    stop: Literal["end", "length"]


def sample(
    model: Transformer, prompts: Sequence[Sequence[int]], *, n_per_prompt: int = 1, max_new_tokens: int,
    temperature: float = 1.0, seed: int, stop_ids: Sequence[int], pad_id: int, greedy: bool = False, max_rows: int = 512,
    keys: Sequence[int] | None = None, on_end: Callable[[int, int, Tensor], None] | None = None,
) -> list[list[Sample]]:  # fmt: skip
    """`n_per_prompt` continuations of each prompt, drawn from softmax(logits / temperature) without truncation.

    A row ends at a stop id ("end"), or after `max_new_tokens` or at the model's context ("length").  What a sample
    draws is keyed by (seed, keys[i], number of the sample); keys default to the prompts' indices.  So a prompt alone and
    in a batch, a group of 4 and the first 4 of 8, and a short limit and the start of a long one give the same ids, as far
    as float rounding (which does depend on the batch) does not decide.  `on_end(i, j, ids_T)` hears of each sample that
    a stop id ended, while the others go on.
    """
    _check(model, prompts, max_new_tokens, temperature)
    keys = range(len(prompts)) if keys is None else keys
    if len(keys) != len(prompts):
        raise DataError(f"{len(prompts)} prompts, {len(keys)} keys; expected one of each")
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    todo = [(i, j) for i in order for j in range(n_per_prompt)]
    drawn: dict[tuple[int, int], Sample] = {}
    with torch.inference_mode():
        decoder = Decoder(model)
    for start in range(0, len(todo), max_rows):
        wave = todo[start : start + max_rows]
        uniform_BT = None if greedy else uniforms(seed, [(keys[i], j) for i, j in wave], max_new_tokens)
        results = _wave(decoder, prompts, wave, uniform_BT, max_new_tokens, temperature, stop_ids, pad_id, on_end)
        for place, (ids_T, logp_T, ended) in zip(wave, results):
            drawn[place] = Sample(ids_T.clone(), logp_T.clone(), "end" if ended else "length")
    return [[drawn[i, j] for j in range(n_per_prompt)] for i in range(len(prompts))]


@torch.inference_mode()
def _wave(
    decoder: Decoder, prompts: Sequence[Sequence[int]], wave: Sequence[tuple[int, int]], uniform_BT: Tensor | None,
    max_new_tokens: int, temperature: float, stop_ids: Sequence[int], pad_id: int,
    on_end: Callable[[int, int, Tensor], None] | None,
) -> list[tuple[Tensor, Tensor, bool]]:  # fmt: skip
    """(ids, log-probabilities, whether a stop id ended it) of each row of one wave."""
    device = decoder.device
    distinct = list(dict.fromkeys(i for i, _ in wave))
    limit_B = torch.tensor([min(max_new_tokens, decoder.spec.context - len(prompts[i])) for i, _ in wave])
    n_steps = int(limit_B.max())
    ids_BT = torch.zeros(len(wave), n_steps, dtype=torch.long)
    logp_BT = torch.zeros(len(wave), n_steps)
    length_B, ended_B = limit_B.clone(), torch.zeros(len(wave), dtype=torch.bool)
    stops = torch.tensor(list(stop_ids), dtype=torch.long)

    logits = decoder.prefill([prompts[i] for i in distinct], n_steps - 1, pad_id)
    if len(distinct) < len(wave):
        place = {i: row for row, i in enumerate(distinct)}
        group_B = torch.tensor([place[i] for i, _ in wave], device=device)
        decoder.rows(group_B)
        logits = logits.index_select(0, group_B)
    alive = torch.arange(len(wave))  # the row of the wave that each decoded row is
    for step in range(n_steps):
        u_B = None if uniform_BT is None else uniform_BT[alive, step].to(device)
        id_B, logp_B = choose(logits, u_B, temperature)
        ids_BT[alive, step] = id_B.cpu()
        logp_BT[alive, step] = logp_B.cpu()
        end_B = torch.isin(ids_BT[alive, step], stops) & (step < length_B[alive])
        length_B[alive[end_B]] = step + 1
        ended_B[alive[end_B]] = True
        for row in alive[end_B].tolist() if on_end else ():
            on_end(*wave[row], ids_BT[row, : step + 1].clone())
        live_B = length_B[alive] > step + 1
        n_live = int(live_B.sum())
        if n_live == 0:
            break
        if n_live < KEEP * len(alive):
            kept = live_B.nonzero()[:, 0]
            decoder.rows(kept.to(device))
            alive, id_B = alive[kept], id_B[kept.to(device)]
        logits = decoder.step(id_B)
    rows = zip(ids_BT, logp_BT, length_B.tolist(), ended_B.tolist())
    return [(ids_T[:length], logp_T[:length], ended) for ids_T, logp_T, length, ended in rows]


def stream(
    model: Transformer, ids: Sequence[int], *, max_new_tokens: int, temperature: float = 1.0, seed: int,
    stop_ids: Sequence[int], should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[int]:  # fmt: skip
    """New ids one by one, the stop id included; temperature 0 is greedy.  Ends where `should_stop()` turns true."""
    _check(model, [ids], max_new_tokens, temperature or 1.0)
    with torch.inference_mode():
        decoder = Decoder(model)
    n_steps = min(max_new_tokens, model.spec.context - len(ids))
    uniform_T = uniforms(seed, [(0, 0)], n_steps)[0].to(decoder.device)
    id_B = None
    for step in range(n_steps):
        if should_stop():
            return
        with torch.inference_mode():
            logits = decoder.prefill([ids], n_steps - 1, ids[0]) if id_B is None else decoder.step(id_B)
            uniform_B = uniform_T[step : step + 1] if temperature else None
            id_B, _ = choose(logits / (temperature or 1.0), uniform_B)
        yield int(id_B)
        if int(id_B) in stop_ids:
            return


def _check(model: Transformer, prompts: Sequence[Sequence[int]], max_new_tokens: int, temperature: float) -> None:
    context = model.spec.context
    if max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens = {max_new_tokens}; expected 1 or more")
    if not temperature > 0:
        raise ConfigError(f"temperature = {temperature}; expected more than 0; ask for greedy=True instead")
    for i, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise DataError(f"prompt {i} is empty; expected one id or more, such as the beginning-of-text id")
        if len(prompt) >= context:
            raise DataError(
                f"prompt {i} has {len(prompt)} ids and the model's context is {context}; "
                f"expected at most {context - 1}; shorten it or extend the context"
            )
