"""What is opened to talk to: an export, or what a stage of a run left; model and tokenizer belong together.
"""

import json
import shutil

import pytest
from shapes import built, shape, varied

from nomoat.config import DataError, WeightsError
from nomoat.run.directory import Run
from nomoat.serve import exporting, loading
from nomoat.tokenizer.bpe import train
from nomoat.weights import directory, shelf

SPEC = shape(
    vocab_size=300, n_layers=2, d_model=16, n_heads=2, d_nope=8, d_rope=4, d_value=8, d_kv_latent=8, d_ffn=24, context=64
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return train(["a small text about numbers, 1 2 3"] * 4, vocab_size=300)


def model(**changes):
    return built(varied(SPEC, **changes)).initialise(1)


def test_an_export_is_opened_with_its_tokenizer(tmp_path, tokenizer):
    directory.save(model(), tmp_path, tokenizer=tokenizer)
    loaded = loading.load(tmp_path)
    assert loaded.tokenizer.fingerprint == tokenizer.fingerprint
    assert loaded.model.spec == SPEC
    with pytest.raises(AttributeError):
        loaded.model = None
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match="no tokenizer.json; expected one beside the weights"):
        loading.load(tmp_path)


def test_a_run_gives_its_newest_weights_any_stage_by_name_or_the_best(tmp_path, tokenizer):
    run = Run.create(tmp_path / "run", {"name": "t", "seed": 0})
    run.log("stage_start", stage="pretrain", config={})
    with pytest.raises(DataError, match="no finished stage"):
        loading.load(run.root)
    tokenizer.save(run.root / "tokenizer")
    run.log(
        "stage_end",
        stage="tokenizer",
        outputs={"tokenizer": "tokenizer", "fingerprint": tokenizer.fingerprint},
    )
    for n_mtp, stage in ((1, "pretrain"), (0, "sft")):
        left = model(n_mtp=n_mtp)
        directory.save(left, run.stage_dir(stage) / "model")
        run.log("stage_end", stage=stage, outputs={"model": f"{stage}/model", "spec": left.spec.model_dump()})
    newest = loading.load(run.root)
    assert newest.model.spec.n_mtp == 0
    assert newest.tokenizer.fingerprint == tokenizer.fingerprint
    assert loading.load(run.root, "pretrain").model.spec.n_mtp == 1
    with pytest.raises(DataError, match="pretrain"):
        loading.load(run.root, "pretrian")
    run.log("stage_end", stage="eval", outputs={"means": {"pretrain": 0.5, "sft": 0.4}})
    assert loading.load(run.root).model.spec.n_mtp == 1
    train(["another text"] * 4, vocab_size=290).save(run.root / "tokenizer")
    with pytest.raises(WeightsError, match="is not the tokenizer that this run trained"):
        loading.load(run.root)


def test_what_ships_is_called_as_it_was_asked_for(tmp_path, monkeypatch, tokenizer):
    """Not by the name of its directory, which every model on the shelf has: its exports say so."""
    monkeypatch.chdir(tmp_path)
    stages = {"sft": {}, "rl": {}}
    for stage in stages:
        directory.save(model(), tmp_path / "shelf" / "toy" / stage, tokenizer=tokenizer)
    table = {"default": "rl", "stages": stages}
    (tmp_path / "shelf" / "toy" / "shelf.json").write_text(json.dumps(table))
    monkeypatch.setattr(shelf, "SHELF", tmp_path / "shelf")
    called = {name: loading.load(name).origin.name for name in ("toy", "toy:rl", "toy:sft")}
    assert called == {"toy": "toy", "toy:rl": "toy", "toy:sft": "toy:sft"}
    assert loading.load("shelf/toy/sft").origin.name == "sft"
    exporting.gguf(loading.load("toy"), tmp_path / "x.gguf", "f32")
    assert loading.Header.of(tmp_path / "x.gguf").meta["general.name"] == "toy"
    card = (tmp_path / "x.gguf.README.md").read_text()
    assert "\n# toy\n" in card
    assert "\nlibrary_name: gguf\n" in card
    exporting.directory(loading.load("toy"), tmp_path / "x", "f32")
    assert "\nlibrary_name: transformers\n" in (tmp_path / "x" / "README.md").read_text()


def test_a_model_with_fewer_rows_than_its_tokenizer_has_ids_is_refused(tmp_path, tokenizer):
    directory.save(model(vocab_size=280), tmp_path / "small")
    tokenizer.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "tokenizer.json", tmp_path / "small")
    with pytest.raises(WeightsError, match="do not belong together"):
        loading.load(tmp_path / "small")


def test_neither_export_nor_run_is_said_so(tmp_path):
    with pytest.raises(DataError, match="expected a run, an exported model or a .gguf"):
        loading.load(tmp_path)
