"""When fine-tuning has taught enough: what a loss says of a whole answer."""

import math

import numpy as np
import pytest

from nomoat.config import ConfigError, parse
from nomoat.data import shards
from nomoat.data.packing import Packed
from nomoat.stages import s4_sft
from nomoat.stages.learnt import STEPS, Learnt
from nomoat.tokenizer.layout import Rendered
from nomoat.train.loop import Gradient


@pytest.fixture
def data(tmp_path):
    """Documents with answers of 3 and of 5 tokens behind questions of 4."""
    documents = [Rendered([8] * (4 + n), [False] * 4 + [True] * n) for n in (3, 5)] * 10
    return Packed({"tasks": shards.write(tmp_path / "tasks", documents, 300)}, {"tasks": 1.0}, 16, 7)


def heard(learnt, *losses):
    for loss in losses:
        learnt.hear(Gradient(loss, 1, 1.0, 1.0))
    return learnt


def test_a_model_that_draws_each_token_with_some_probability_draws_an_answer_with_its_power(data):
    p = 0.8
    losses = [-math.log(p)] * STEPS
    learnt = heard(Learnt(0.5, data), *losses)
    assert learnt.probability == pytest.approx(p**4)
    assert not learnt.enough()
    assert heard(Learnt(p**4 - 1e-9, data), *losses).enough()


def test_the_last_steps_count_alone_and_only_once_there_are_some(data):
    assert not heard(Learnt(0.9, data), *[0.0] * (STEPS - 1)).enough()
    assert heard(Learnt(0.9, data), 9.0, math.nan, *[0.0] * STEPS).enough()
    assert not heard(Learnt(None, data), *[0.0] * STEPS).enough()


def test_what_a_checkpoint_keeps_decides_as_before(data):
    before = heard(Learnt(0.3, data), 0.4, 0.3)
    after = Learnt(0.3, data)
    after.state.update(before.state)
    for learnt in (before, after):
        heard(learnt, 0.2, 0.1)
    assert np.isclose(after.probability, math.exp(-4 * 0.25))
    assert after.enough() == before.enough()
    assert after.says() == before.says()


def test_whole_texts_have_no_such_probability():
    table = {"kind": "sft", "name": "sft", "steps": 1, "until": 0.5}
    with pytest.raises(ConfigError, match="until = 0.5 beside shares.prose"):
        parse(s4_sft.Config, table, "sft")
