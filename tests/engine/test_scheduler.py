"""Whatever is asked, cancelled or preempted, each row says what it says alone, and no block is lost."""

import random

import pytest
from behind import random_model
from laws import TINY, alone, bits, request, roomy, said, whole

from nomoat.engine.blocks import n_blocks
from nomoat.engine.engine import Engine


@pytest.fixture(scope="module")
def model():
    return random_model(TINY)


@pytest.fixture(scope="module")
def quiet(model):
    """An engine for requests that are asked alone."""
    return Engine(model, roomy(model, 64, rows=8))


def walk(model, quiet, seed: int, n_steps: int = 60) -> None:
    """Requests come, are cancelled and end in a cramped engine."""
    draw = random.Random(seed)
    most = n_blocks(TINY.context)
    limits = {"rows": draw.randrange(1, 7), "step_tokens": draw.choice((1, 3, 16, 40, 200))}
    engine = Engine(model, roomy(model, draw.randrange(most, 3 * most), **limits))
    stems = [[draw.randrange(40) for _ in range(n)] for n in (0, 40, 70)]
    asked, cancelled, tokens = {}, set(), []
    for step in range(10**6):
        if step < n_steps and draw.random() < 0.3:
            one = request(draw, stems=stems)
            asked[engine.submit(one)] = one
        if asked and draw.random() < 0.1:
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
            if step >= n_steps:
                break
    assert not engine.blocks.kept
    found = said(tokens)
    for number in asked.keys() - cancelled:
        assert bits(found[number]) == bits(alone(quiet, asked[number])), f"seed {seed}, request {number}"


@pytest.mark.parametrize("seed", range(6))
def test_any_walk_leaves_everything_whole(model, quiet, seed):
    walk(model, quiet, seed)


@pytest.mark.check
def test_hundreds_of_walks_leave_everything_whole(model, quiet):
    for seed in range(6, 300):
        walk(model, quiet, seed)
