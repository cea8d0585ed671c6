"""A prefix that was computed before is found, to the exact count, and changes no bit; the oldest goes."""

import pytest
import torch
from behind import random_model
from laws import TINY, alone, bits, finish, roomy, said, whole

from nomoat.engine.blocks import BLOCK, Blocks
from nomoat.engine.engine import Engine, Limits
from nomoat.engine.request import Request, Sampling

LONG = [(7 * i + i // 5) % 38 for i in range(140)]


@pytest.fixture(scope="module")
def model():
    return random_model(TINY)


def engine_of(model, n: int = 20) -> Engine:
    return Engine(model, roomy(model, n, rows=4, step_tokens=50))


def asked(engine: Engine, prompt, n_new: int = 5, **more) -> list:
    number = engine.submit(Request(prompt, n_new, **more))
    return said(finish(engine))[number]


def n_cached(found) -> list[int]:
    return [tokens[0].n_cached for tokens in found.values()]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(LONG[:100], LONG[:100], 96), (LONG[:96], LONG[:96], 64), (LONG[:97], LONG[:97], 96),
     (LONG[:96], LONG[:97], 96),
     (LONG[:31], LONG[:80], 32), (LONG[:20], LONG[:80], 0), (LONG[:100], [0, *LONG[:100]], 0),
     (LONG[:90], LONG[:33], 32), (LONG[:90], [*LONG[:50], 39, *LONG[51:90]], 32),
     (LONG[:90], [*LONG[:64], 39], 64),
     (LONG[:90], LONG[:32], 0), (LONG[:1], LONG[:1], 0)],
)  # fmt: skip
def test_what_was_read_is_counted_and_not_computed_again(model, first, second, expected):
    engine = engine_of(model)
    reply = [] if len(first) != 31 else [LONG[31], LONG[32]]  # which the second prompt goes on from
    bias = {"bias": {reply[0]: 1000.0}} if reply else {}
    assert n_cached(asked(engine, first, 3, sampling=Sampling(**bias))) == [0]
    found = asked(engine, second)
    assert n_cached(found) == [expected]
    assert bits(found) == bits(alone(engine, Request(second, 5)))
    assert all(token.n_cached is None for tokens in found.values() for token in tokens[1:])


def test_samples_share_their_prompt_and_what_was_read_before(model):
    engine = engine_of(model)
    asked(engine, LONG[:70])
    found = asked(engine, LONG[:75], n=3)
    assert [tokens[0].n_cached for _, tokens in sorted(found.items())] == [64, 75, 75]
    for sample, tokens in found.items():
        fresh = alone(engine, Request(LONG[:75], 5, n=sample + 1))
        assert bits({sample: tokens}) == bits({sample: fresh[sample]})


def test_a_conversation_is_read_once(model):
    engine, talk = engine_of(model), LONG[:10]
    for turn in range(6):
        found = asked(engine, talk, 12, seed=turn)
        assert n_cached(found) == [(len(talk) - 9) // BLOCK * BLOCK if turn else 0]
        assert bits(found) == bits(alone(engine_of(model), Request(talk, 12, seed=turn)))
        talk = [*talk, *(token.id for token in found[0]), *LONG[turn : turn + 8]]


def test_a_preempted_row_counts_what_was_cached_when_it_came(model):
    engine = Engine(model, roomy(model, 6, rows=4, step_tokens=64))
    numbers = [engine.submit(Request([id, *LONG[:62]], 70)) for id in (1, 2, 3)]
    found = said(finish(engine))
    assert [n_cached(found[number]) for number in numbers] == [[0]] * 3


def test_the_least_recently_used_goes_first_and_the_end_before_the_beginning(model):
    engine = engine_of(model, 6)
    a, b = LONG[:70], LONG[40:110]
    for prompt in (a, b, a):
        asked(engine, prompt, 2)
    assert sorted(engine.blocks.kept) == sorted(engine.blocks.key_of)
    asked(engine, LONG[5:105], 2)  # takes four blocks: two that are free and those of b
    assert n_cached(asked(engine, a, 2)) == [64]
    assert n_cached(asked(engine, b, 2)) == [0]
    engine = engine_of(model, 5)
    asked(engine, LONG[:130], 2)
    asked(engine, LONG[7:60], 2)  # takes the free one, and the last of those four
    assert n_cached(asked(engine, LONG[:130], 2)) == [96]


def test_memory_stays_what_it_was(model):
    for compiled in (True, False):
        engine = Engine(model, Limits(rows=40, cache_bytes=100_000), compiled=compiled)
        assert engine.blocks.n * engine.block_bytes <= 100_000 < (engine.blocks.n + 1) * engine.block_bytes
        for i in range(12):
            asked(engine, [i, *LONG[:70]], 3)
            whole(engine)
        assert len(engine.blocks.key_of) <= engine.blocks.n


def test_new_weights_read_everything_anew():
    model, other = random_model(TINY), random_model(TINY)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    for compiled in (True, False):
        engine = Engine(model, compiled=compiled)
        before = bits(asked(engine, LONG[:70], 9))
        assert n_cached(asked(engine, LONG[:70], 9)) == [64]
        kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(other.state_dict())
        engine.refresh()
        after = asked(engine, LONG[:70], 9)
        assert n_cached(after) == [0]
        assert bits(after) == bits(alone(Engine(other, compiled=compiled), Request(LONG[:70], 9))) != before
        model.load_state_dict(kept)
        engine.refresh()
        assert bits(asked(engine, LONG[:70], 9)) == before


def test_weights_stay_while_rows_run(model):
    engine = engine_of(model)
    number = engine.submit(Request(LONG[:70], 9))
    for _ in range(3):
        with pytest.raises(RuntimeError, match="while rows run"):
            engine.refresh()
        engine.step()
    engine.cancel(number)
    engine.refresh()


def test_blocks_are_known_by_all_that_stands_before():
    blocks, ids = Blocks(4), list(range(64))
    taken = [blocks.take(), blocks.take()]
    blocks.learn(taken, 1, ids)  # nothing is known of the first
    assert blocks.seen([*ids, 1]) == []
    for place in (0, 1):
        blocks.learn(taken, place, ids)
    assert blocks.seen([*ids, 1]) == taken
    assert blocks.seen(ids) == taken[:1]
    assert blocks.seen([*ids[32:], *ids[32:], 1]) == []
