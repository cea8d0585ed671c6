"""Packing: a batch is a pure function of its place in the stream, and loses nothing of the documents."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.config import ConfigError
from nomoat.data import rows, shards
from nomoat.data.packing import IGNORED, NOWHERE, Packed


def memory_shard(sizes, first_id=10, trained=None):
    """A shard in memory whose tokens count up, so that each token is known by its value."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    tokens = np.arange(first_id, first_id + offsets[-1]).astype(np.uint32)
    mask = np.ones(len(tokens), np.uint8) if trained is None else trained
    return shards.Shard(tokens, mask, offsets)


def equal(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("ids_BT", "targets_BT", "doc_BT"))


SIZES = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 7, 7, 7, 16, 17, 32, 33, 4]


@pytest.fixture(scope="module")
def two_sources():
    return Packed(
        {"a": memory_shard(SIZES), "b": memory_shard([9] * 40, 5_000)}, {"a": 3.0, "b": 1.0}, 16, seed=5
    )


def test_a_batch_depends_on_its_place_alone(two_sources):
    forwards = [two_sources.batch(8 * i, 8) for i in range(12)]
    again = Packed(
        {"b": memory_shard([9] * 40, 5_000), "a": memory_shard(SIZES)}, {"b": 1.0, "a": 3.0}, 16, seed=5
    )
    assert all(equal(again.batch(8 * i, 8), forwards[i]) for i in reversed(range(12)))
    assert not equal(Packed({"a": memory_shard(SIZES)}, {"a": 1.0}, 16, seed=6).batch(0, 8), forwards[0])


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_rows_of_one_rank(two_sources, world):
    whole = two_sources.batch(40, 8)
    parts = [two_sources.batch(40, 8, rank, world) for rank in range(world)]
    assert torch.equal(torch.cat([p.ids_BT for p in parts]), whole.ids_BT)
    assert torch.equal(torch.cat([p.targets_BT for p in parts]), whole.targets_BT)
    assert torch.equal(torch.cat([p.doc_BT for p in parts]), whole.doc_BT)


def test_a_ramp_of_batch_sizes_takes_the_same_rows(two_sources):
    steady = torch.cat([two_sources.batch(i, 1).ids_BT for i in range(14)])
    ramp = torch.cat(
        [two_sources.batch(0, 2).ids_BT, two_sources.batch(2, 4).ids_BT, two_sources.batch(6, 8).ids_BT]
    )
    assert torch.equal(steady, ramp)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 70), min_size=1, max_size=60), st.sampled_from([2, 3, 16, 64]), st.integers(0, 3)
)
def test_every_token_once_an_epoch_and_targets_stay_in_the_document(sizes, T, epoch):
    shard = memory_shard(sizes)
    packed = Packed({"a": shard}, {"a": 1.0}, T, seed=1)
    n_rows = packed.rows["a"].n_rows
    batch = packed.batch(epoch * n_rows, n_rows)
    real = batch.doc_BT != NOWHERE
    assert torch.equal(batch.ids_BT[real].sort().values, torch.arange(10, 10 + sum(sizes)))
    assert (batch.ids_BT[~real] == 0).all()
    assert (batch.targets_BT[~real] == IGNORED).all()
    owner = np.repeat(np.arange(len(sizes)), sizes)
    last = shard.offsets[1:] - 1 + 10
    for ids_T, targets_T, doc_T in zip(
        batch.ids_BT.tolist(), batch.targets_BT.tolist(), batch.doc_BT.tolist()
    ):
        assert [d for d in doc_T if d != NOWHERE] == sorted(
            d for d in doc_T if d != NOWHERE
        )  # one run a document
        for number in set(doc_T) - {NOWHERE}:
            run = [i for i, d in zip(ids_T, doc_T) if d == number]
            assert run == list(range(run[0], run[0] + len(run)))  # tokens in order ...
            assert len(set(owner[np.array(run) - 10])) == 1  # ... and of one document
        for token, target, doc in zip(ids_T, targets_T, doc_T):
            if doc != NOWHERE:
                assert target == (IGNORED if token in last else token + 1)


def test_a_cut_document_goes_on_where_it_was_cut():
    packed = Packed({"a": memory_shard([20])}, {"a": 1.0}, 8, seed=0)
    batch = packed.batch(0, 3)
    pieces = sorted(
        [i for i, d in zip(row, doc) if d != NOWHERE]
        for row, doc in zip(batch.ids_BT.tolist(), batch.doc_BT.tolist())
    )
    assert pieces == [list(range(10, 18)), list(range(18, 26)), list(range(26, 30))]
    targets = set(batch.targets_BT.flatten().tolist())
    assert targets == {*range(11, 30), IGNORED}  # the token after a cut is a target too


def test_only_trained_tokens_are_targets():
    mask = np.array([0, 0, 1, 1, 0, 1], np.uint8)
    batch = Packed({"a": memory_shard([6], trained=mask)}, {"a": 1.0}, 8, seed=0).batch(0, 1)
    assert batch.targets_BT[0].tolist() == [IGNORED, 12, 13, IGNORED, 15, IGNORED, IGNORED, IGNORED]


def test_weights_are_the_shares_of_the_rows_at_every_scale(two_sources):
    for n_rows in (8, 64, 4096, 5000):
        from_b = (two_sources.batch(0, n_rows).ids_BT[:, 0] >= 5_000).sum().item()
        assert abs(from_b - n_rows / 4) <= 1


def test_rows_come_in_another_order_each_epoch():
    packed = Packed({"a": memory_shard([16] * 50)}, {"a": 1.0}, 16, seed=0)
    epochs = [packed.batch(50 * e, 50).ids_BT[:, 0].tolist() for e in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_best_fit_uses_each_length_as_often_as_it_occurs(counts):
    T = len(counts)
    histogram = np.array([0, *counts])
    used = np.zeros(T + 1, int)
    for composition, n_rows in rows.best_fit(histogram, T):
        assert n_rows > 0
        assert 0 < sum(composition) <= T
        for length in composition:
            used[length] += n_rows
    assert (used == histogram).all()


def test_planning_is_fast_and_wastes_little():
    sizes = np.random.default_rng(0).integers(5, 60, 100_000)
    shard = memory_shard(sizes)
    started = time.perf_counter()
    packed = Packed({"a": shard}, {"a": 1.0}, 256, seed=0)
    assert time.perf_counter() - started < 5  # measured 0.1; the bound is for a busy machine
    assert sizes.sum() / (packed.rows["a"].n_rows * 256) > 0.99


def test_impossible_requests_are_refused():
    shard = memory_shard([4])
    with pytest.raises(ConfigError, match="one weight a source"):
        Packed({"a": shard}, {"b": 1.0}, 8, 0)
    with pytest.raises(ConfigError, match="weights above 0"):
        Packed({"a": shard}, {"a": 0.0}, 8, 0)
    with pytest.raises(ConfigError, match="less than one row"):
        Packed({"a": shard, "b": shard}, {"a": 1.0, "b": 1e-9}, 8, 0)
    with pytest.raises(ConfigError, match="ranks to divide"):
        Packed({"a": shard}, {"a": 1.0}, 8, 0).batch(0, 3, 0, 2)
