"""Units: they hold each byte of the sources once; a directory goes on only with what it was begun with."""

import gzip
import json
import os

import pytest

from nomoat.config import DataError
from nomoat.data import readers, sources, units, workers
from nomoat.data.units import Choices
from nomoat.tokenizer import bpe

TEXT = "It is 12.5 degrees, and so on.\n"


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train([TEXT], bpe.SMALLEST_VOCAB)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(units, "UNIT_BYTES", 1000)


def write(folder):
    """Files small and large, of several kinds."""
    folder.mkdir()
    for n in range(4):
        (folder / f"a{n}.txt").write_text(f"{n} {TEXT}" * 5)
    (folder / "b.txt").write_text("\f".join(f"{n} {TEXT * (n % 3 + 1)}" for n in range(80)))
    rows = [json.dumps({"text": f"{n} {TEXT}"}) for n in range(120)]
    (folder / "c.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "d.txt").write_text("x" * 9000)
    (folder / "e.jsonl.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    return folder


def test_units_hold_each_byte_once_and_each_document_whole(tmp_path, tokenizer, small):
    folder = write(tmp_path / "texts")
    plan = units.begin(tmp_path / "out", [folder], tokenizer, Choices())
    at = {}
    for part in (part for unit in plan.units for part in unit):
        assert part.start == at.get(part.source, 0)
        at[part.source] = part.end
    assert [at[n] for n in range(len(plan.sources))] == [source.n_bytes for source in plan.sources]
    assert len(plan.units) > 8
    assert all(plan.unit_bytes(n) <= 2500 or len(plan.units[n]) == 1 for n in range(len(plan.units)))
    read = [d.text for n in range(len(plan.units)) for s in plan.spans(n) for d in readers.read(s)]
    assert read == [document.text for document in sources.from_path(folder)]


def test_groups_of_rows_are_parts_of_a_table(tmp_path, tokenizer, small):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = [f"{n} {os.urandom(40).hex()}" for n in range(200)]
    parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "t.parquet", row_group_size=20)
    plan = units.begin(tmp_path / "out", [tmp_path / "t.parquet"], tokenizer, Choices())
    assert len(plan.units) > 3
    read = [d.text for n in range(len(plan.units)) for s in plan.spans(n) for d in readers.read(s)]
    assert read == texts


def test_only_what_it_was_begun_with_goes_on(tmp_path, tokenizer, small):
    folder, out = write(tmp_path / "texts"), tmp_path / "out"
    plan = units.begin(out, [folder], tokenizer, Choices())
    workers.step(str(out))
    assert units.begin(out, [folder], tokenizer, Choices()) == plan
    with pytest.raises(DataError, match="another tokenizer"):
        units.begin(out, [folder], bpe.train([TEXT * 9], bpe.SMALLEST_VOCAB + 5), Choices())
    with pytest.raises(DataError, match="min_chars=3.*another --out"):
        units.begin(out, [folder], tokenizer, Choices(min_chars=3))
    with pytest.raises(DataError, match="begun with 8 files, found 1"):
        units.begin(out, [folder / "b.txt"], tokenizer, Choices())
    os.utime(folder / "c.jsonl", (1, 1))
    assert units.begin(out, [folder], tokenizer, Choices()) == plan  # the same content at another time
    content = (folder / "c.jsonl").read_text()
    (folder / "c.jsonl").write_text(content.replace("degrees", "degreez", 1))
    with pytest.raises(DataError, match=r"c\.jsonl has changed since it was read"):
        units.begin(out, [folder], tokenizer, Choices())
    (folder / "c.jsonl").write_text(content + "\n")
    with pytest.raises(DataError, match=r"c\.jsonl has changed .*bytes, expected"):
        units.begin(out, [folder], tokenizer, Choices())


def test_a_directory_of_something_else_is_left_alone(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(DataError, match="holds other files"):
        units.begin(tmp_path / "out", [tmp_path / "a.txt"], tokenizer, Choices())
    with pytest.raises(DataError, match="is named 2 times"):
        units.begin(tmp_path / "new", [tmp_path / "a.txt"] * 2, tokenizer, Choices())
