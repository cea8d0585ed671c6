"""Whatever is asked, cancelled or preempted, each row says what it says alone, and no block is lost."""

import random

import pytest
import torch
from behind import random_model
from laws import TINY, alone, bits, finish, request, roomy, said, whole

from nomoat.engine.blocks import n_blocks
from nomoat.engine.engine import Engine, Limits
from nomoat.engine.native import runner as native
from nomoat.engine.request import Request


@pytest.fixture(scope="module")
def model():
    return random_model(TINY)


@pytest.fixture(scope="module")
def quiet(model):
    """An engine for requests that are asked alone."""
    return Engine(model, roomy(model, 64, rows=8))


def walk(model, quiet, seed: int, n_steps: int, chance: float = 0.1, drafts: str = "off") -> None:
    """Requests come, are cancelled with a chance and end in a cramped engine."""
    draw = random.Random(seed)
    most = n_blocks(TINY.context)
    limits = {"rows": draw.randrange(1, 7), "step_tokens": draw.choice((1, 3, 16, 40, 200))}
    engine = Engine(model, roomy(model, draw.randrange(most, 3 * most), **limits), drafts=drafts)
    stems = [[draw.randrange(40) for _ in range(n)] for n in (0, 40, 70)]
    asked, cancelled, tokens = {}, set(), []
    for step in range(10**6):
        engine.pace.guessing = True
        if step < n_steps and draw.random() < 0.3:
            one = request(draw, stems=stems)
            asked[engine.submit(one)] = one
        if asked and draw.random() < chance:
            number = draw.choice(list(asked))
            engine.cancel(number)
            cancelled.add(number)
        whole(engine)
        new = engine.step()
        assert not {token.request for token in new} & cancelled
        tokens += new
        whole(engine)
        if not engine.busy:
            engine.refresh()
            assert not engine.blocks.kept
            if step >= n_steps:
                break
    found = said(tokens)
    for number in asked.keys() - cancelled:
        assert bits(found[number]) == bits(alone(quiet, asked[number])), f"seed {seed}, request {number}"


@pytest.mark.parametrize("n_threads", [1, 2])
def test_thirty_mixes_say_what_each_says_alone(model, quiet, threads, n_threads):
    threads(n_threads)
    for seed in range(28 if n_threads == 1 else 2):
        walk(model, quiet, seed, n_steps=12, chance=0.05 * (seed % 3))


@pytest.mark.check
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("drafts", ["off", "lookup"])
def test_two_hundred_mixes_say_what_each_says_alone(model, quiet, threads, n_threads, drafts):
    threads(n_threads)
    for seed in range(100, 200):
        walk(model, quiet, seed, n_steps=60, chance=0.05 * (seed % 3), drafts=drafts)


@pytest.fixture
def threads(monkeypatch):
    """So many threads compute each step of an engine made from now on, however little there is to do."""
    before = torch.get_num_threads()
    monkeypatch.setattr(native, "WORTH_A_THREAD", 0)
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_samples_that_find_no_block_wait(model, quiet):
    """Five of a prompt, where another row takes the blocks that were free when they came."""
    one = Request(list(range(33)), 20, n=5)
    for n in range(5, 12):
        engine = Engine(model, roomy(model, n, rows=8, step_tokens=200))
        numbers = [engine.submit(asked) for asked in (Request([5] * 31, 60), one, Request([6] * 60, 30))]
        tokens = []
        while engine.busy:
            tokens += engine.step()
            whole(engine)
        assert bits(said(tokens)[numbers[1]]) == bits(alone(quiet, one))


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("n_steps", [0, 1, 2, 5])
def test_what_is_cancelled_leaves_no_trace(model, compiled, n, n_steps):
    """While it waits, amid its prompt, and amid its reply."""
    engine = Engine(model, Limits(rows=3, step_tokens=30), compiled=compiled)
    stays = Request([3, 4, 5], 12, key=1)
    numbers = [engine.submit(stays), engine.submit(Request(list(range(35)), 30, n=n))]
    tokens = [token for _ in range(n_steps) for token in engine.step()]
    engine.cancel(numbers[1])
    whole(engine)
    assert not any(row.number == numbers[1] for row in [*engine.scheduler.running, *engine.scheduler.waiting])
    after = finish(engine)
    assert {token.request for token in after} == {numbers[0]}
    assert len(engine.blocks.free) + len(engine.blocks.kept) == engine.blocks.n
    assert len(engine.scheduler.slots) == 3
    ids = [token.id for token in tokens + after if token.request == numbers[0]]
    assert ids == [token.id for token in alone(Engine(model, compiled=compiled), stays)[0]]


def test_a_request_is_cancelled_once_and_others_not_at_all(model):
    engine = Engine(model)
    number = engine.submit(Request([1], 5))
    for other in (number + 1, -1, number, number):
        engine.cancel(other)
        assert engine.busy == (other != number)
    assert finish(engine) == []


def test_many_prompts_and_long_ones_make_no_row_wait(model):
    """Rows that are being continued go on in each step, whatever has to be read beside them."""
    engine = Engine(model, Limits(rows=8, step_tokens=20))
    first = engine.submit(Request([1], 40))
    engine.step()
    for i in range(6):
        engine.submit(Request([i, *range(30), *range(30), *range(30)], 3))
    for _ in range(30):
        assert sum(token.request == first for token in engine.step()) == 1
