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

OnEnd = Callable[[int, int, Tensor], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """One continuation.  `ids_T` holds the new ids, the stop id included.

    `logp_T` (float32) is each id's log-probability under the policy at the sampling temperature.
    """

    ids_T: Tensor
    logp_T: Tensor
    stop: Literal["end", "length"]


def sample(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    *,
    n_per_prompt: int = 1,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int,
    stop_ids: Sequence[int],
    pad_id: int,
    greedy: bool = False,
    max_rows: int = 512,
    keys: Sequence[int] | None = None,
    on_end: OnEnd | None = None,
) -> list[list[Sample]]:
    """`n_per_prompt` continuations of each prompt, drawn from softmax(logits / temperature) without
    truncation.

    A row ends at a stop id ("end"), or after `max_new_tokens` or at the model's context ("length").  What a
    sample draws is keyed by (seed, keys[i], number of the sample); keys default to the prompts' indices.  So
    a prompt alone and in a batch, a group of 4 and the first 4 of 8, and a short limit and the start of a
    long one give the same ids, as far as float rounding (which does depend on the batch) does not decide.
    `on_end(i, j, ids_T)` hears of each sample that a stop id ended, while the others go on.
    """
    _check(model, prompts, max_new_tokens, temperature)
    keys = range(len(prompts)) if keys is None else keys
    if len(keys) != len(prompts):
        raise DataError(f"{len(prompts)} prompts, {len(keys)} keys; expected one of each")
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    todo = [(i, j) for i in order for j in range(n_per_prompt)]
    stops = torch.tensor(list(stop_ids), dtype=torch.long)
    with torch.inference_mode():
        decoder = Decoder(model)
    drawn: dict[tuple[int, int], Sample] = {}
    for start in range(0, len(todo), max_rows):
        rows = todo[start : start + max_rows]
        uniform_BT = None if greedy else uniforms(seed, [(keys[i], j) for i, j in rows], max_new_tokens)
        wave = _Wave(decoder, prompts, rows, max_new_tokens)
        wave.decode(prompts, pad_id, uniform_BT, temperature, stops, on_end)
        drawn |= zip(rows, wave.samples())
    return [[drawn[i, j] for j in range(n_per_prompt)] for i in range(len(prompts))]


class _Wave:
    """Rows that are decoded together: row r continues prompt i as its sample j, (i, j) = rows[r].

    Rows that ended leave the decoder in groups; `alive` says which row of the wave each decoded row is.
    """

    def __init__(
        self,
        decoder: Decoder,
        prompts: Sequence[Sequence[int]],
        rows: Sequence[tuple[int, int]],
        max_new_tokens: int,
    ):
        self.decoder, self.rows = decoder, rows
        limits = [min(max_new_tokens, decoder.spec.context - len(prompts[i])) for i, _ in rows]
        self.n_steps = max(limits)
        self.alive = torch.arange(len(rows))
        self.ids_BT = torch.zeros(len(rows), self.n_steps, dtype=torch.long)
        self.logp_BT = torch.zeros(len(rows), self.n_steps)
        self.length_B = torch.tensor(limits)
        self.ended_B = torch.zeros(len(rows), dtype=torch.bool)

    @torch.inference_mode()
    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        pad_id: int,
        uniform_BT: Tensor | None,
        temperature: float,
        stops: Tensor,
        on_end: OnEnd | None,
    ) -> None:
        logits = self.prefill(prompts, pad_id)
        for step in range(self.n_steps):
            uniform = None if uniform_BT is None else uniform_BT[self.alive, step].to(logits.device)
            ids, logps = choose(logits, uniform, temperature)
            ended = self.record(step, ids.cpu(), logps.cpu(), stops)
            for row in ended.tolist() if on_end else ():
                on_end(*self.rows[row], self.ids_BT[row, : step + 1].clone())
            live = self.length_B[self.alive] > step + 1
            n_live = int(live.sum())
            if n_live == 0:
                break
            if n_live < KEEP * len(live):
                ids = self.thin(live, ids)
            logits = self.decoder.step(ids)

    def prefill(self, prompts: Sequence[Sequence[int]], pad_id: int) -> Tensor:
        """Logits behind the prompt of each row.

        A prompt of several rows is computed once.
        """
        prompt_of_row = [i for i, _ in self.rows]
        distinct = list(dict.fromkeys(prompt_of_row))
        logits = self.decoder.prefill([prompts[i] for i in distinct], self.n_steps - 1, pad_id)
        if len(distinct) == len(prompt_of_row):
            return logits
        place = {i: n for n, i in enumerate(distinct)}
        group_B = torch.tensor([place[i] for i in prompt_of_row], device=logits.device)
        self.decoder.rows(group_B)
        return logits.index_select(0, group_B)

    def record(self, step: int, id_B: Tensor, logp_B: Tensor, stops: Tensor) -> Tensor:
        """Keep what a step chose for the rows alive; gives those of the wave that a stop id ended."""
        self.ids_BT[self.alive, step] = id_B
        self.logp_BT[self.alive, step] = logp_B
        stopped = torch.isin(id_B, stops) & (step < self.length_B[self.alive])
        ended = self.alive[stopped]
        self.length_B[ended] = step + 1
        self.ended_B[ended] = True
        return ended

    def thin(self, live: Tensor, ids: Tensor) -> Tensor:
        """Only live rows stay in the decoder; gives their ids."""
        kept = live.nonzero()[:, 0]
        self.alive = self.alive[kept]
        kept = kept.to(ids.device)
        self.decoder.rows(kept)
        return ids[kept]

    def samples(self) -> list[Sample]:
        rows = zip(self.ids_BT, self.logp_BT, self.length_B.tolist(), self.ended_B.tolist())
        return [
            Sample(ids_T[:n].clone(), logp_T[:n].clone(), "end" if ended else "length")
            for ids_T, logp_T, n, ended in rows
        ]


def stream(
    model: Transformer,
    ids: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int,
    stop_ids: Sequence[int],
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[int]:
    """New ids one by one, the stop id included; temperature 0 is greedy.  Ends where `should_stop()` turns
    true.
    """
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


def _check(
    model: Transformer, prompts: Sequence[Sequence[int]], max_new_tokens: int, temperature: float
) -> None:
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
