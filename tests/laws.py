"""Requests at random, and what the engine makes of them alone: what its laws are stated with."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from shapes import shape

from nomoat.engine.blocks import BLOCK, n_blocks
from nomoat.engine.engine import Engine, Limits
from nomoat.engine.request import Request, Sampling, Thinking, Token
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer

TINY = shape(
    vocab_size=40, n_layers=2, d_model=16, n_heads=2, d_nope=4, d_rope=4, d_value=4, d_kv_latent=12, d_ffn=20,
    context=150,
)  # fmt: skip
OPEN, CLOSE = 38, 39
SETTINGS = (
    {"temperature": 0.0}, {}, {}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.8, "temperature": 1.3},
    {"min_p": 0.2}, {"repetition": 1.3, "presence": 0.4, "frequency": 0.1}, {"bias": {5: 2.0, 7: -100.0}},
    {"top_logprobs": 3}, {"temperature": 0.0, "repetition": 1.2},
)  # fmt: skip
Said = dict[int, list[Token]]  # sample -> its tokens


def roomy(model: Transformer, n: int, **more: object) -> Limits:
    """Limits with a cache of `n` blocks, compiled or not."""
    return Limits(cache_bytes=n * Engine(model, Limits(rows=1)).block_bytes, **more)


def request(draw: random.Random, spec: Spec = TINY, stems: Sequence[Sequence[int]] = ((),)) -> Request:
    """A request at random; its prompt goes on from one of the stems."""
    stem = list(draw.choice(stems))
    length = draw.choice((1, 2, 5, 31, 32, 33, 50, 64))
    prompt = (stem + [draw.randrange(spec.vocab_size) for _ in range(length)])[: spec.context - 1]
    thinking = Thinking(draw.randrange(4), OPEN, CLOSE, opened=draw.random() < 0.5)
    return Request(
        prompt,
        draw.choice((1, 2, 7, 20, 45)),
        stop_ids=frozenset(draw.sample(range(spec.vocab_size), draw.randrange(2))),
        sampling=Sampling(**draw.choice(SETTINGS)),
        thinking=thinking if draw.random() < 0.2 else None,
        n=draw.choice((1, 1, 1, 2, 5)),
        seed=draw.randrange(3),
        key=draw.randrange(5),
    )


def said(tokens: Sequence[Token]) -> dict[int, Said]:
    """The tokens of each sample of each request."""
    out: dict[int, Said] = defaultdict(lambda: defaultdict(list))
    for token in tokens:
        out[token.request][token.sample].append(token)
    return out


def bits(found: Said) -> dict[int, list[tuple[object, ...]]]:
    """All that a caller reads of it but how much was cached."""
    return {
        sample: [(t.id, np.float64(t.logp).tobytes(), t.stop, t.top, t.plain_logp) for t in tokens]
        for sample, tokens in found.items()
    }


def finish(engine: Engine) -> list[Token]:
    tokens = []
    while engine.busy:
        tokens += engine.step()
    return tokens


def alone(engine: Engine, asked: Request) -> Said:
    """What an engine that knows nothing says, when it is asked this and nothing else."""
    engine.refresh()
    number = engine.submit(asked)
    return said(finish(engine))[number]


def whole(engine: Engine) -> None:
    """Every block and slot has the owners that it counts, and none is lost."""
    blocks, scheduler = engine.blocks, engine.scheduler
    held = Counter(block for row in scheduler.running for block in row.blocks)
    assert all(blocks.holders[block] == held[block] for block in range(blocks.n))
    assert sorted([*blocks.free, *blocks.kept, *held]) == list(range(blocks.n))
    assert set(blocks.kept) <= set(blocks.key_of)
    assert {blocks.block_of[key]: key for key in blocks.block_of} == blocks.key_of
    slots = [row.slot for row in scheduler.running]
    assert sorted(slots + scheduler.slots) == list(range(scheduler.n_rows))
    for row in scheduler.running:
        assert scheduler.tables[row.slot, : len(row.blocks)].tolist() == row.blocks
        assert len(set(row.blocks)) == len(row.blocks)
        assert row.n_computed <= len(row.blocks) * BLOCK
        shared = [block for block in row.blocks if held[block] > 1]
        assert len(shared) <= row.n_computed // BLOCK  # what is written next is its own
        assert n_blocks(len(row.ids)) <= blocks.n
    for row in scheduler.waiting:
        assert (row.blocks, row.n_computed, row.slot, row.drafts) == ([], 0, -1, [])
