"""A text that is tokens already: read as it is, noted by its digest, and refused with another tokenizer."""

import json
from types import SimpleNamespace

import pytest
import torch

from nomoat.config import DataError, parse
from nomoat.data import documents, prepare, shards, sources, units, workers
from nomoat.data.packing import Packed
from nomoat.parallel.mesh import ALONE
from nomoat.run.directory import Run
from nomoat.run.stop import Stop
from nomoat.stages import fit, inputs, s1_tokenizer
from nomoat.tokenizer import bpe
from nomoat.train.session import Session


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train(["It is 12.5 degrees, and so on.\n"], bpe.SMALLEST_VOCAB)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(units, "UNIT_BYTES", 500)
    texts = (f"It is {n} degrees, " + "and so on, " * (n % 7) for n in range(90))
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return tmp_path / "texts.jsonl"


@pytest.fixture
def out(tmp_path, source, tokenizer):
    plan = units.begin(tmp_path / "out", [source], tokenizer, units.Choices())
    workers.step(str(tmp_path / "out"))
    prepare.finish(tmp_path / "out", plan)
    return tmp_path / "out"


@pytest.fixture
def session(tmp_path):
    run = Run.create(tmp_path / "run", {})
    run.log("stage_start", stage="pretrain", config={})
    energy = SimpleNamespace(lap=lambda: (0.0, "none"))
    return Session(run, "pretrain", ALONE, Stop(), energy=energy)


def config(text, cls=fit.Config, kind="pretrain", **more):
    steps = {} if cls is s1_tokenizer.Config else {"steps": 1}
    return parse(cls, {"kind": kind, "name": kind, "text": str(text), **steps, **more}, kind)


def test_training_reads_the_same_batches_as_from_the_text(tmp_path, session, source, out, tokenizer):
    read = documents.prose(sources.from_path(source), tokenizer)
    plain = Packed({"prose": shards.write(tmp_path / "plain", read)}, {"prose": 1.0}, 32, 7)
    recipe = SimpleNamespace(key=lambda *_: 7)
    packed = fit.prepare(session, config(out, context=32), recipe, tokenizer)
    assert len(packed.shards["prose"].tokens.files) > 5
    n_rows = packed.rows["prose"].n_rows
    assert n_rows == plain.rows["prose"].n_rows
    for field in ("ids_BT", "targets_BT", "doc_BT"):
        found, expected = (getattr(data.batch(0, 2 * n_rows), field) for data in (packed, plain))
        assert torch.equal(found, expected)
    assert not (session.directory / "data" / "prose").exists()


def test_the_log_says_which_tokens_and_finds_others(session, out, tokenizer):
    reader = config(out)
    inputs.tokens(session, reader, tokenizer)
    recipe = SimpleNamespace(stages=[reader])
    assert [read["what"] for read in session.run.events("read")] == ["text"]
    assert inputs.changes(session.run, recipe) == []
    assert len(list(inputs.text(session, reader))) == 90  # an evaluation reads the text again
    assert len(session.run.events("read")) == 1
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "n_documents": 91}))
    assert [change.read["what"] for change in inputs.changes(session.run, recipe)] == ["text"]


def test_about_as_many_bytes_as_are_asked_are_read(session, source, out, tokenizer):
    sizes = [len(document.text) for document in sources.from_path(source)]
    for n_bytes, n_documents in ((1, 1), (sum(sizes) // 2, 45), (sum(sizes), 90), (10**9, 90)):
        found = inputs.tokens(session, config(out, text_bytes=n_bytes), tokenizer)
        assert abs(len(found.offsets) - 1 - n_documents) <= 2
        assert found.offsets[0] == 0


def test_what_it_cannot_be_asked_for_is_refused(session, out, tokenizer):
    other = bpe.train(["It is 12.5 degrees, and so on.\n" * 9], bpe.SMALLEST_VOCAB + 4)
    with pytest.raises(DataError, match="prepared with another tokenizer"):
        inputs.tokens(session, config(out), other)
    with pytest.raises(DataError, match="is tokens already; expected text to make a tokenizer"):
        inputs.text(session, config(out, s1_tokenizer.Config, "tokenizer"))
    (out / "manifest.json").unlink()
    with pytest.raises(DataError, match="finished: run the same command again"):
        inputs.tokens(session, config(out), tokenizer)
