"""Shards: what is written is what is read, or an error says why not."""

import numpy as np
import pytest

from nomoat.config import DataError
from nomoat.data import shards
from nomoat.tokenizer.layout import Rendered

DOCUMENTS = [
    Rendered([1, 2, 3], [True] * 3),
    Rendered([9], [False]),
    Rendered([4, 5, 6, 7], [False, True, False, True]),
]


def documents(shard):
    parts = [slice(start, end) for start, end in zip(shard.offsets[:-1], shard.offsets[1:])]
    return [
        Rendered(shard.tokens[part].tolist(), shard.trained[part].astype(bool).tolist()) for part in parts
    ]


def test_documents_come_back(tmp_path):
    shard = shards.write(tmp_path / "s", iter(DOCUMENTS))
    assert documents(shard) == documents(shards.open(tmp_path / "s")) == DOCUMENTS


def test_the_token_type_fits_the_vocabulary(tmp_path):
    assert shards.write(tmp_path / "s", [Rendered([65_535], [True])], 2**16).tokens.dtype == np.uint16
    assert shards.write(tmp_path / "l", [Rendered([129_279], [True])], 129_280).tokens.tolist() == [129_279]


def test_more_documents_than_any_buffer_holds_come_back_in_order(tmp_path):
    many = [Rendered([i % 60_000, i // 60_000], [True, False]) for i in range(100_000)]
    assert documents(shards.write(tmp_path / "s", iter(many))) == many


def test_a_full_disk_leaves_the_shard_that_was_there(tmp_path, full_disk):
    shards.write(tmp_path / "s", DOCUMENTS)
    many = [Rendered([1] * 9_000, [True] * 9_000)]
    with full_disk(4_000), pytest.raises(DataError, match=r"no space for .*/s .*needs more than .*free some"):
        shards.write(tmp_path / "s", many)
    assert documents(shards.open(tmp_path / "s")) == DOCUMENTS
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_shard_is_written_anew_over_an_older_one(tmp_path):
    shards.write(tmp_path / "s", DOCUMENTS)
    assert documents(shards.write(tmp_path / "s", [Rendered([7], [True])])) == [Rendered([7], [True])]
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("name", shards.FILES)
def test_damage_is_found(tmp_path, name):
    shards.write(tmp_path / "s", DOCUMENTS)
    path = tmp_path / "s" / name
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with pytest.raises(DataError, match="damaged"):
        shards.open(tmp_path / "s")


def test_a_foreign_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="to be a token shard"):
        shards.open(tmp_path)


def test_no_documents_make_no_shard(tmp_path):
    with pytest.raises(DataError, match="no documents"):
        shards.write(tmp_path / "s", [])


def test_conversations_that_are_cut_or_leave_nothing_to_learn_are_counted(tmp_path):
    documents = [
        Rendered([1] * 9, [True] * 9),  # a text, which is read in pieces
        Rendered([1] * 20, [False] * 8 + [True] * 12),  # the reply begins behind the row
        Rendered([1] * 9, [False] * 4 + [True] * 5),
        Rendered([1] * 8, [False] * 4 + [True] * 4),
        Rendered([1] * 3, [False] * 3),
    ]
    shard = shards.write(tmp_path / "s", documents)
    assert shards.conversations_cut(shard.offsets, shard.trained, 8) == (2, 1, 1)
