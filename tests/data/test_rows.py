"""Rows planned in pieces that fit are those planned at once, and orders those of sorting everything."""

import tracemalloc
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.config import DataError
from nomoat.data import rows, shards


def at_once(offsets, T, key):
    """The rows with everything in memory: the pieces of each row, by the definition."""
    per_document = -(-np.diff(offsets) // T)
    starts = np.concatenate([o + T * np.arange(n) for o, n in zip(offsets, per_document)]).astype(int)
    ends = np.repeat(offsets[1:], per_document)
    lengths = np.minimum(ends - starts, T)
    by_hash = np.argsort(rows.hashes(0, len(starts), key), kind="stable")
    waiting = {n: [i for i in by_hash.tolist() if lengths[i] == n] for n in range(1, T + 1)}
    laid = []
    for composition, count in rows.best_fit(np.bincount(lengths, minlength=T + 1), T):
        block = [[] for _ in range(count)]
        for length in composition:
            for row in block:
                row.append(waiting[length].pop(0))
        laid += [sorted(row) for row in block]
    return [[(starts[i], lengths[i], ends[i]) for i in row] for row in laid]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=80),
    st.sampled_from([2, 5, 16, 64]),
    st.sampled_from([1, 3, 16, 1000]),
    st.integers(0, 2**64 - 1),
)
def test_rows_are_those_of_planning_at_once(sizes, T, window, key):
    offsets = np.cumsum([0, *sizes, 1]).astype(np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "WINDOW", window)
        patch.setattr(shards, "IN_MEMORY", 64)
        found = rows.plan(offsets, T, key)
    assert [list(found.pieces(row)) for row in range(found.n_rows)] == at_once(offsets, T, key)


def test_memory_does_not_grow_with_the_documents(monkeypatch):
    monkeypatch.setattr(rows, "WINDOW", 2**12)
    monkeypatch.setattr(shards, "IN_MEMORY", 2**10)
    peaks = []
    for n in (2**15, 2**17):
        sizes = np.random.default_rng(0).integers(1, 200, n)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        tracemalloc.start()
        planned = rows.plan(offsets, 64, 5)
        rows.permutation(planned.n_rows, 6)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
    assert peaks[1] < 8 * 2**17  # bytes of one number of each document


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 1000])
def test_an_order_is_that_of_the_hashes(n, monkeypatch):
    monkeypatch.setattr(rows, "WINDOW", 16)
    expected = np.argsort(rows.hashes(0, n, 7), kind="stable")
    assert rows.permutation(n, 7).tolist() == expected.tolist()


def test_no_room_for_the_order_is_said(monkeypatch):
    monkeypatch.setattr(shards, "IN_MEMORY", 64)
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(shards.os, "posix_fallocate", Mock(side_effect=full))
    with pytest.raises(DataError, match="no 800 bytes in .*No space left.*TMPDIR"):
        shards.blank(100, np.dtype(np.int64))
