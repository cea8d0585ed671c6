"""Preparing: the same bytes whoever makes them and whenever, and what is left out is counted and said."""

import json
import shutil

import pytest

from nomoat.config import DataError
from nomoat.data import documents, prepare, prepared, preparing, shards, sources, units, workers
from nomoat.data.units import Choices
from nomoat.tokenizer import bpe

TEXT = "It is 12.5 degrees, and so on.\n"


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train([TEXT], bpe.SMALLEST_VOCAB)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(units, "UNIT_BYTES", 1000)
    rows = [json.dumps({"text": f"{n} {TEXT * (n % 4)}"}) for n in range(150)]
    talk = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "So."}]
    rows.insert(70, json.dumps({"messages": talk}))
    (tmp_path / "texts.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path / "texts.jsonl"


def asked(source, tokenizer, out, n=1, **choices):
    return preparing.Asked([source], tokenizer, out, Choices(**choices), n)


def silent(_):
    pass


@pytest.fixture
def inside(monkeypatch):
    """Units are made in this process."""
    monkeypatch.setattr(workers, "run", lambda out, plan, todo, n, say: workers.step(str(out)))


def content(out):
    """Every byte but of locks."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*"))
            if path.is_file() and not path.name.startswith(".")}  # fmt: skip


def test_one_worker_and_three_leave_the_same_bytes(tmp_path, source, tokenizer):
    said = []
    plan = units.begin(tmp_path / "one", [source], tokenizer, Choices())
    workers.step(str(tmp_path / "one"))
    prepare.finish(tmp_path / "one", plan)
    preparing.prepared(asked(source, tokenizer, tmp_path / "three", 3), said.append)
    assert content(tmp_path / "one") == content(tmp_path / "three")
    assert len(list((tmp_path / "one" / "shards").iterdir())) > 5
    assert "units" in said[-1]


def test_what_was_cut_short_goes_on_to_the_same_bytes(tmp_path, source, tokenizer):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for out in (whole, cut):
        plan = units.begin(out, [source], tokenizer, Choices())
        workers.step(str(out))
        prepare.finish(out, plan)
    (cut / "manifest.json").unlink()
    shutil.rmtree(cut / "shards" / "00002")
    (cut / "shards" / "00001").rename(cut / "shards" / "00001.partial")  # as a kill leaves it
    (cut / "shards" / "00001.partial" / "shard.json").unlink()
    assert units.missing(cut, plan) == [1, 2]
    for rank in (1, 0):  # two machines, the second first
        workers.step(str(cut), rank=rank, world_size=2)
    prepare.finish(cut, plan)
    assert content(whole) == content(cut)


def test_the_shards_are_the_documents_that_training_would_have_read(tmp_path, source, tokenizer):
    out = tmp_path / "out"
    plan = units.begin(out, [source], tokenizer, Choices())
    workers.step(str(out))
    manifest = prepare.finish(out, plan)
    read = list(documents.prose(sources.from_path(source), tokenizer))
    shard = prepared.opened(out, tokenizer)
    assert shard.tokens[:].tolist() == [id for document in read for id in document.ids]
    assert shard.trained[:].tolist() == [mark for document in read for mark in document.trained]
    assert shard.offsets.tolist()[-1] == manifest["n_tokens"] == len(shard.tokens)
    assert [d.text for d in prepared.texts(out)][:70] == [d.text for d in sources.from_path(source)][:70]
    assert prepared.check(out) == manifest


def test_bad_rows_are_counted_and_said_with_their_line(tmp_path, source, tokenizer, inside):
    lines = source.read_text().splitlines()
    lines[100], lines[140] = "{", '{"body": 1}'
    source.write_text("\n".join(lines))
    out = tmp_path / "out"
    said = preparing.prepared(asked(source, tokenizer, out, min_chars=10), silent)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["n_bad"] == 2
    assert manifest["bad"][0].startswith(f"{source}:101 is not JSON")
    assert manifest["bad"][1].startswith(f"{source}:141 has the keys ['body']")
    assert manifest["sources"][0]["n_rows"] == 151
    assert manifest["n_short"] == 39
    assert manifest["n_documents"] == 151 - 2 - 39
    assert "2 bad rows are left out" in said
    assert f"{source}:101" in said


BAD = {
    "only.jsonl": (b"{\n" * 200, "51 of 51 rows are bad; the last: .*only.jsonl:51 is not JSON"),
    "few.jsonl": (b"{\n", r"no documents are left .*1 bad rows.*few.jsonl:1 is not JSON"),
    "latin.txt": (b"gr\xfc\xdfe", "latin.txt is not UTF-8: byte 0xfc at offset 2; convert it"),
    "wide.txt": ("a".encode("utf-16"), "is UTF-16"),
    "cut.jsonl.gz": (b"\x1f\x8b", "can't be unpacked"),
    "book.pdf": (b"%PDF", "expected .txt"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_prepared_says_why(tmp_path, tokenizer, name, inside):
    (tmp_path / name).write_bytes(BAD[name][0])
    out = tmp_path / "out"
    with pytest.raises(DataError, match=BAD[name][1]):
        preparing.prepared(asked(tmp_path / name, tokenizer, out), silent)
    assert not (out / "manifest.json").exists()
    with pytest.raises(DataError, match="another tokenizer|finished"):
        prepared.opened(out, tokenizer)


def test_a_damaged_shard_is_found(tmp_path, source, tokenizer):
    out = tmp_path / "out"
    plan = units.begin(out, [source], tokenizer, Choices())
    workers.step(str(out))
    prepare.finish(out, plan)
    with pytest.raises(DataError, match="prepared with another tokenizer .*--tokenizer RUN"):
        prepared.opened(out, bpe.train([TEXT * 9], bpe.SMALLEST_VOCAB + 5))
    file = out / "shards" / "00003" / "tokens.bin"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    with pytest.raises(DataError, match="damaged"):
        prepared.check(out)
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"damaged or missing \(0 bytes, expected"):
        prepared.opened(out, tokenizer)
    shutil.rmtree(file.parent)
    with pytest.raises(DataError, match="expected .*00003 to be a token shard"):
        shards.join([file.parent])


def test_an_estimate_is_in_proportion(tmp_path, source, tokenizer):
    rate = preparing.Rate(n_bytes=10**6, n_documents=100, n_tokens=250_000, seconds=0.5, item_bytes=2)
    assert rate.hours(10**12, 10) == pytest.approx(10**12 / 2e6 / 10 / 3600)
    assert rate.out_bytes(10**12) == pytest.approx(500_800e6)
    lines = preparing.estimated(asked(source, tokenizer, tmp_path / "out")).splitlines()
    assert len(lines) == 5
    assert "1 TB of text" in lines[-1]
    assert not (tmp_path / "out").exists()
