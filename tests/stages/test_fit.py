"""Pretraining's rows: which step reads what, and where a new model starts."""

import numpy as np
import pytest
import torch

from nomoat.config import ConfigError, parse
from nomoat.data import shards
from nomoat.data.packing import Packed
from nomoat.stages import fit, s4_sft
from nomoat.tokenizer.layout import Rendered


def config(**more):
    table = {"kind": "pretrain", "name": "pretrain", "steps": 10, "rows": 2, "context": 32}
    return parse(fit.Config, {**table, **more}, "x")


def batch_of(config, data, step):
    rows = fit.rows_at(config, data, step)
    return rows.data.batch(rows.first, rows.n)


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    documents = [
        Rendered(ids, [True] * len(ids))
        for ids in (rng.integers(8, 200, rng.integers(40, 90)).tolist() for _ in range(300))
    ]
    return Packed({"prose": shards.write(tmp_path / "prose", documents, 300)}, {"prose": 1.0}, 32, 7)


def test_short_rows_come_first_and_hold_as_many_tokens(data):
    found = [batch_of(config(short_context=8, short=0.4), data, step).ids_BT for step in range(10)]
    assert [tuple(ids_BT.shape) for ids_BT in found] == [(8, 8)] * 4 + [(2, 32)] * 6


def test_no_row_is_read_twice_and_the_long_ones_start_at_their_first(data):
    cut, plain = config(short_context=8, short=0.4, first_rows=1, ramp_steps=3), config()
    short = torch.cat([batch_of(cut, data, step).ids_BT for step in range(4)])
    n = len(short)
    assert torch.equal(short, data.at(8).batch(0, n).ids_BT)
    assert torch.equal(batch_of(cut, data, 4).ids_BT, batch_of(plain, data, 0).ids_BT)


@pytest.mark.parametrize("wrong", [{"short_context": 8}, {"short": 0.5}, {"short_context": 7, "short": 0.5}])
def test_an_impossible_curriculum_is_refused(wrong):
    with pytest.raises(ConfigError, match="short_context"):
        config(**wrong)


def test_only_a_new_model_starts_from_counts():
    assert config(weights="counts").weights == "counts"
    with pytest.raises(ConfigError, match="weights"):
        parse(s4_sft.Config, {"kind": "sft", "name": "sft", "steps": 1, "weights": "counts"}, "sft")
