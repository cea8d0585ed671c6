"""What most callers ask: samples of many prompts, or the tokens of one reply as they come.  Both are one
loop.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import torch

from nomoat.config import ConfigError, DataError
from nomoat.engine.blocks import BLOCK, n_blocks
from nomoat.engine.engine import CACHE_BYTES, ROWS, Engine, Limits
from nomoat.engine.native import build
from nomoat.engine.native.layout import Precision
from nomoat.engine.request import Request, Sample, Sampling, Token
from nomoat.model import counts
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer

SAMPLE_BYTES = 1 << 28  # of the cache of many samples
FEWEST = 32  # rows that run side by side whatever they take: enough for a large model to be busy

OnEnd = Callable[[int, int, torch.Tensor], None]


def sample(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    *,
    n_per_prompt: int = 1,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int,
    stop_ids: Sequence[int],
    greedy: bool = False,
    rows: int = ROWS,
    keys: Sequence[int] | None = None,
    on_end: OnEnd | None = None,
    engine: Engine | None = None,
    precision: Precision = "as is",
) -> list[list[Sample]]:
    """`n_per_prompt` continuations of each prompt, drawn from softmax(logits / temperature) without
    truncation.

    A row ends at a stop id ("end"), or after `max_new_tokens` or at the model's context ("length").  What a
    sample draws is keyed by (seed, keys[i], number of the sample); keys default to the prompts' indices.
    So a prompt alone and in a batch, a group of 4 and the first 4 of 8, and a short limit and the start of
    a long one give the same ids (to the bit where the engine's runner is invariant).  `on_end(i, j, ids_T)`
    hears of each sample that a stop id ended, while the others go on.  `engine` is one of this model, with
    its weights; `precision` that of the one that is made otherwise.
    """
    keys = range(len(prompts)) if keys is None else keys
    if len(keys) != len(prompts):
        raise DataError(f"{len(prompts)} prompts, {len(keys)} keys; expected one of each")
    check(temperature, engine, precision)
    how = {
        "max_new_tokens": max_new_tokens,
        "stop_ids": frozenset(stop_ids),
        "sampling": Sampling(temperature=0.0 if greedy else temperature),
        "n": n_per_prompt,
        "seed": seed,
    }
    requests = [Request(prompt, key=key, **how) for prompt, key in zip(prompts, keys)]
    if not requests:
        return []
    if engine is None:
        longest = max(map(len, prompts)) + max_new_tokens
        engine = engine_for(model, min(rows, len(prompts) * n_per_prompt), longest, precision)
    drawn = collected(engine, requests, on_end)
    return [[drawn[i, j] for j in range(n_per_prompt)] for i in range(len(prompts))]


def engine_for(model: Transformer, rows: int, longest: int, precision: Precision) -> Engine:
    return Engine(model, room(model.spec, rows, longest), precision=precision)


class Sampler:
    """`sample` by one engine for all calls, of one model whose weights stay as they are."""

    def __init__(self, precision: Precision):
        self.precision = precision
        self.engine: Engine | None = None

    def __call__(
        self,
        model: Transformer,
        prompts: Sequence[Sequence[int]],
        *,
        n_per_prompt: int,
        max_new_tokens: int,
        **how: Any,
    ) -> list[list[Sample]]:
        if not prompts:
            return []
        longest = max(map(len, prompts)) + max_new_tokens
        if self.engine and n_blocks(min(longest, model.spec.context)) > self.engine.blocks.n:
            self.engine = None  # before there is another: each has its own copy of the weights
        if self.engine is None:
            rows = min(ROWS, len(prompts) * n_per_prompt)
            self.engine = engine_for(model, rows, longest, self.precision)
        sizes = {"n_per_prompt": n_per_prompt, "max_new_tokens": max_new_tokens}
        return sample(model, prompts, engine=self.engine, **sizes, **how)


def products_for(precision: str, device: torch.device) -> Precision:
    """How an engine multiplies where this precision is asked for: "bf16" by tiles alone; int8 stays, all else
    is as the weights are."""
    if precision == "bf16":
        return "bf16" if device.type == "cpu" and build.tiles() else "as is"
    return "int8" if precision == "int8" else "as is"


def check(temperature: float, engine: Engine | None, precision: Precision) -> None:
    """ConfigError for what samples can't be drawn with."""
    if not temperature > 0:
        raise ConfigError(
            f"temperature = {temperature}; expected more than 0; ask for greedy=True instead"
        )
    if engine is not None and precision != "as is":
        raise ConfigError(
            f"precision = {precision} beside an engine, which has its own; expected one of the two: leave "
            "the precision out"
        )


def room(spec: Spec, rows: int, longest: int) -> Limits:
    """How many rows of so many tokens run at the same time, what SAMPLE_BYTES hold, and a cache for them."""
    positions = n_blocks(min(longest, spec.context)) * BLOCK
    each = counts.cache_bytes(spec) * positions
    rows = min(rows, max(FEWEST, SAMPLE_BYTES // each))
    return Limits(rows=rows, cache_bytes=min(CACHE_BYTES, max(rows * each, SAMPLE_BYTES)))


def collected(
    engine: Engine, requests: Sequence[Request], on_end: OnEnd | None
) -> dict[tuple[int, int], Sample]:
    """Of each request and number of a sample, the whole sample."""
    ids: dict[tuple[int, int], list[int]] = defaultdict(list)
    logps: dict[tuple[int, int], list[float]] = defaultdict(list)
    samples = {}
    with closing(spoken(engine, requests)) as tokens:
        for i, token in tokens:
            key = i, token.sample
            ids[key].append(token.id)
            logps[key].append(token.logp)
            if token.stop:
                ids_T = torch.tensor(ids.pop(key))
                logp_T = torch.tensor(logps.pop(key))
                samples[key] = Sample(ids_T, logp_T, token.stop)
                if token.stop == "end" and on_end:
                    on_end(*key, ids_T)
    return samples


def stream(
    engine: Engine, request: Request, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Token]:
    """The tokens of a request as they come.

    Ends, and computes no more, where `should_stop()` turns true or the caller closes it.
    """
    with closing(spoken(engine, [request], should_stop, "the prompt")) as tokens:
        for _, token in tokens:
            yield token


def spoken(
    engine: Engine,
    requests: Sequence[Request],
    should_stop: Callable[[], bool] = lambda: False,
    name: str = "prompt {}",
) -> Iterator[tuple[int, Token]]:
    """(i, token of requests[i]) as they come; what others wait for meanwhile is kept for them.

    However it ends, none of its requests stays in the engine.  `name` is what errors call a prompt.
    """
    place: dict[int, int] = {}
    unread: deque[Token] = deque()
    left = sum(request.n for request in requests)
    try:
        for i, request in enumerate(requests):
            place[engine.submit(request, name.format(i))] = i
        engine.unread |= dict.fromkeys(place, unread)
        while left and (unread or engine.busy) and not should_stop():
            if not unread:
                for token in engine.step():
                    if token.request in engine.unread:
                        engine.unread[token.request].append(token)
                continue
            token = unread.popleft()
            left -= token.stop is not None
            yield place[token.request], token
    finally:
        for number in place:
            engine.cancel(number)
