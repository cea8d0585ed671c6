"""Data sets as sources of a preparation: the tokens that a recipe's `hub` would give, file by file."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest

from nomoat.cli.data import data
from nomoat.config import ConfigError, DataError
from nomoat.data import documents, hub, prepare, prepared, preparing, sources, units, workers
from nomoat.data.sources import DataSet
from nomoat.data.units import Choices
from nomoat.tokenizer import bpe

TEXT = "It is 12.5 degrees, and so on.\n"
CARD = """---
configs:
- config_name: en
  default: true
  data_files: [{split: train, path: en/train-*}, {split: validation, path: en/validation-*}]
- config_name: de
  data_files: [{split: train, path: de/train-*}]
---
"""
N_FILES, N_ROWS = 5, 30


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train([TEXT], bpe.SMALLEST_VOCAB)


@pytest.fixture
def data_set(tmp_path, monkeypatch):
    """A data set in the layout of the hub: a card, two configurations, files that are numbered."""
    pytest.importorskip("datasets")
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(units, "UNIT_BYTES", 8000)
    folder = tmp_path / "set"
    for language in ("en", "de"):
        (folder / language).mkdir(parents=True)
        for i in range(N_FILES):
            texts = [f"{language} {i} {k} {TEXT * (k % 3)}" for k in range(N_ROWS)]
            file = folder / language / f"train-{i:05d}-of-{N_FILES:05d}.parquet"
            pq.write_table(pa.table({"body": texts}), file, row_group_size=7)
    pq.write_table(pa.table({"body": ["held out"]}), folder / "en" / "validation-00000-of-00001.parquet")
    (folder / "README.md").write_text(CARD)
    return folder


def content(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*"))
            if path.is_file() and not path.name.startswith(".")}  # fmt: skip


def asked(tokenizer, out, *data_sets, n=1, files=(), **choices):
    return preparing.Asked(files, tokenizer, out, Choices(**choices), n, None, data_sets)


@pytest.fixture
def inside(monkeypatch):
    """Units are made in this process."""
    monkeypatch.setattr(workers, "run", lambda out, plan, todo, n, say: workers.step(str(out)))


def test_the_tokens_are_those_of_the_same_data_set_in_a_recipe(tmp_path, data_set, tokenizer, inside):
    german = DataSet(name=str(data_set), config="de", column="body")
    said = preparing.prepared(asked(tokenizer, tmp_path / "out", german), lambda _: None)
    read = list(documents.prose(sources.from_hub(german), tokenizer))
    shard = prepared.opened(tmp_path / "out", tokenizer)
    assert len(read) == N_FILES * N_ROWS
    assert shard.tokens[:].tolist() == [id for document in read for id in document.ids]
    assert f"{len(read)} documents" in said
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [source["n_rows"] for source in manifest["sources"]] == [N_ROWS] * N_FILES
    assert 1 < len(manifest["shards"]) < N_FILES  # some small files are a unit


def test_a_killed_preparation_goes_on_to_the_same_bytes(tmp_path, data_set, tokenizer, inside):
    both = [DataSet(name=str(data_set), config=name) for name in ("de", "en")]
    plain = tmp_path / "plain.txt"
    plain.write_text(TEXT)
    for out in (tmp_path / "whole", tmp_path / "cut"):
        wanted = asked(tokenizer, out, *both, files=[plain], column="body")
        preparing.prepared(wanted, lambda _: None)
    (tmp_path / "cut" / "manifest.json").unlink()
    shutil.rmtree(tmp_path / "cut" / "shards" / "00002")
    file = data_set / "de" / f"train-00001-of-{N_FILES:05d}.parquet"
    os.utime(file, (1, 1))  # another time, the same bytes: read again, and compared
    preparing.prepared(wanted, lambda _: None)
    assert content(tmp_path / "whole") == content(tmp_path / "cut")
    (tmp_path / "cut" / "manifest.json").unlink()
    damaged = bytearray(file.read_bytes())
    damaged[9] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(DataError, match=r"train-00001.* has changed since it was read"):
        preparing.prepared(wanted, lambda _: None)


@pytest.mark.check
def test_two_workers_leave_the_same_bytes(tmp_path, data_set, tokenizer):
    german = DataSet(name=str(data_set), config="de", column="body")
    plan = units.begin(tmp_path / "one", [], tokenizer, Choices(), [german])
    workers.step(str(tmp_path / "one"))
    prepare.finish(tmp_path / "one", plan)
    preparing.prepared(asked(tokenizer, tmp_path / "two", german, n=2), lambda _: None)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_what_is_asked_wrongly_says_what_there_is(tmp_path, data_set, tokenizer, inside):
    out = tmp_path / "out"
    for keys, complaint in (
        ({}, r"no documents are left .*150 bad rows.*train-00000.*row 1 has the keys \['body'\]"),
        ({"config": "fr"}, r"configuration `fr`.*Available: \['en', 'de'\]"),
        ({"config": "de", "split": "dev"}, r"split `dev`.*Available splits: \['train'\]"),
    ):
        wanted = asked(tokenizer, out, DataSet(name=str(data_set), **keys))
        with pytest.raises(DataError, match=complaint):
            preparing.prepared(wanted, lambda _: None)
        assert not (out / "manifest.json").exists()
        shutil.rmtree(out)


def test_another_data_set_than_it_was_begun_with_is_refused(tmp_path, data_set, tokenizer):
    german, english = (DataSet(name=str(data_set), config=name) for name in ("de", "en"))
    units.begin(tmp_path / "out", [], tokenizer, Choices(), [german])
    for others in ([english], [], [german, english]):
        with pytest.raises(DataError, match="was begun with data set .*configuration `de`.*found"):
            units.begin(tmp_path / "out", [], tokenizer, Choices(), others)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_name_on_the_hub_is_pinned_to_its_commit(tmp_path, tokenizer, monkeypatch):
    """The library is played here: what it is asked for, and what it resolves."""
    seen = []

    def builder(name, config, revision):
        seen.append(revision)
        path = f"hf://datasets/{name}@{revision or COMMIT}/a.parquet"
        return SimpleNamespace(config=SimpleNamespace(data_files={"train": [path]}))

    def load(name, config, split, revision, streaming):
        seen.append(revision)
        return SimpleNamespace(n_shards=1, shard=lambda num_shards, index: [{"text": TEXT}])

    errors = SimpleNamespace(DatasetsError=KeyError)
    library = SimpleNamespace(load_dataset_builder=builder, load_dataset=load, exceptions=errors)
    monkeypatch.setitem(__import__("sys").modules, "datasets", library)
    monkeypatch.setattr(hub, "size_and_time", lambda path: (0, 0))
    wiki = DataSet(name="some/wiki")
    plan = units.begin(tmp_path / "out", [], tokenizer, Choices(), [wiki])
    assert seen == [None, None]
    assert plan.data_sets[0].commit == COMMIT
    assert units.begin(tmp_path / "out", [], tokenizer, Choices(), [wiki]) == plan
    workers.step(str(tmp_path / "out"))
    assert set(seen[2:]) == {COMMIT}  # whatever the name stands for by now
    manifest = prepare.finish(tmp_path / "out", plan)
    assert manifest["n_documents"] == 1
    assert manifest["sources"][0]["path"] == f"hf://datasets/some/wiki@{COMMIT}/a.parquet"


def test_on_the_command_line_it_is_named_as_in_a_recipe(tmp_path, data_set, tokenizer, inside, capsys):
    tokenizer.save(tmp_path / "tokenizer")
    table = f'{{name = "{data_set}", config = "de", column = "body"}}'
    how = {"tokenizer": str(tmp_path / "tokenizer"), "out": tmp_path / "out", "workers": 1}
    assert data("prepare", (), hub=(table,), plan=True, **how) == 0
    assert "MB/s a core" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert data("prepare", (), hub=(table,), **how) == 0
    assert f"{N_FILES * N_ROWS} documents" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="did you mean `config`"):
        data("prepare", (), hub=('{name = "x", confi = "de"}',), **how)
    with pytest.raises(ConfigError, match="is no table"):
        data("prepare", (), hub=('{name = "x"',), **how)
