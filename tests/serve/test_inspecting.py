"""What `inspect` says is what the files hold; weights are never read."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from shapes import built, shape

import nomoat
from nomoat.config import DataError, WeightsError
from nomoat.model import counts
from nomoat.serve import exporting, inspecting, loading
from nomoat.tokenizer.bpe import train
from nomoat.tokenizer.layout import Message, render
from nomoat.weights import directory
from nomoat.weights.gguf import load as gguf

SPEC = shape(
    vocab_size=300, n_layers=2, d_model=32, n_heads=2, n_kv_heads=1, d_head=16, d_ffn=64, context=64
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small model as a directory and as a GGUF file."""
    root = tmp_path_factory.mktemp("made")
    tokenizer = train(["a small text about numbers, 1 2 3"] * 4, vocab_size=300)
    nomoat.save(built(SPEC).initialise(1).eval(), root / "dir", tokenizer)
    loaded = loading.load(root / "dir")
    exporting.gguf(loaded, root / "one.gguf", "q8_0")
    return root


@pytest.mark.parametrize("name", ["dir", "one.gguf"])
def test_sizes_template_and_marks_are_those_of_the_model(made, name, monkeypatch):
    monkeypatch.setattr(gguf, "load", None)
    monkeypatch.setattr(directory, "load", None)
    found = inspecting.inspect(made / name)
    assert found.facts["parameters"] == counts.params_total(SPEC)
    assert found.facts["context"] == 64
    assert found.facts["missing"] == found.facts["unknown"] == []
    assert found.facts["think marks"] == ["<think>", "</think>"]
    assert found.facts["ends a reply"] == ["<|eos|>"]
    assert found.example == "<|bos|><|user|>What is 2+3?<|assistant|>"
    assert found.facts["bytes"] < (made / name).stat().st_size or name == "dir"
    assert json.dumps(found.facts)
    assert "parameters" in found.text()


def test_every_door_opens_both(made):
    ids_BT = torch.arange(30)[None]
    logits = []
    for name in ("dir", "one.gguf"):
        model, tokenizer, layout = nomoat.load(made / name)
        assert tokenizer.layout is layout
        assert tokenizer.decode(tokenizer.encode("numbers 12")) == "numbers 12"
        logits.append(model(ids_BT))
    assert logits[0].dtype == torch.float32
    torch.testing.assert_close(*logits, atol=0.02, rtol=0)  # eight bits


def test_tensors_that_lack_or_are_too_many_are_named(made, tmp_path):
    nomoat.save(nomoat.load(made / "dir")[0], tmp_path / "odd")
    tensors = load_file(tmp_path / "odd" / "model.safetensors")
    tensors["model.layers.9.mlp.up_proj.weight"] = tensors.pop("model.norm.weight")
    save_file(tensors, tmp_path / "odd" / "model.safetensors")
    facts = inspecting.inspect(tmp_path / "odd").facts
    assert facts["missing"] == ["model.norm.weight"]
    assert facts["unknown"] == ["model.layers.9.mlp.up_proj.weight"]
    assert "none: " in inspecting.inspect(tmp_path / "odd").example  # no tokenizer beside it
    with pytest.raises(WeightsError, match="1 missing"):
        directory.load(tmp_path / "odd")


def test_what_is_no_model_is_said_so(tmp_path):
    with pytest.raises(DataError, match="expected a run, an exported model or a .gguf file"):
        inspecting.inspect(tmp_path)


def test_a_template_beside_our_own_tokenizer_is_used(made, tmp_path):
    shutil.copytree(made / "dir", tmp_path / "dir")
    file = tmp_path / "dir" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"chat_template": "<|user|>{{ messages[0].content }}<|assistant|>!"}))
    assert inspecting.inspect(tmp_path / "dir").example == "<|user|>What is 2+3?<|assistant|>!"


def test_what_is_there_is_not_written_over(made, tmp_path):
    loaded = loading.load(made / "dir")
    (tmp_path / "new.gguf.Modelfile").write_text("mine")
    for path in (made / "one.gguf", tmp_path / "new.gguf"):
        with pytest.raises(DataError, match="is there already; expected a new file"):
            exporting.gguf(loaded, path, "f32")
    assert (tmp_path / "new.gguf.Modelfile").read_text() == "mine"
    with pytest.raises(DataError, match="has another ending; expected FILE.gguf"):
        exporting.gguf(loaded, tmp_path / "new", "f32")
    with pytest.raises(DataError, match="x.gguf is to be a directory; expected another ending"):
        exporting.directory(loaded, tmp_path / "x.gguf", "f32")
    (tmp_path / "file").write_text("")
    for write, name in ((exporting.gguf, "x.gguf"), (exporting.directory, "x")):
        with pytest.raises(DataError, match="can't write to .*; expected a directory of yours"):
            write(loaded, tmp_path / "file" / name, "f32")


def test_a_gguf_is_known_whatever_its_name_and_a_part_of_a_model_is_not_one(made, tmp_path):
    shutil.copy(made / "one.gguf", tmp_path / "plain")
    assert loading.load(tmp_path / "plain").model.spec == loading.load(made / "one.gguf").model.spec
    with pytest.raises(DataError, match="is part of a model; expected the whole; name its directory"):
        inspecting.inspect(made / "dir" / "model.safetensors")


def test_every_way_out_of_a_run_has_its_card_and_what_it_was_taught(smoke, tmp_path):
    """The export stage; a directory and a GGUF file of a run; a directory of that directory, and of the file.
    """
    loaded = loading.load(smoke.root, "rl")
    assert loaded.panel.kinds == ("lamp", "sorting")
    assert loaded.panel.examples
    exporting.directory(loaded, tmp_path / "dir", "bf16")
    paths = exporting.gguf(loaded, tmp_path / "one.gguf", "f16")
    assert [path.name for path in paths] == ["one.gguf", "one.gguf.Modelfile", "one.gguf.README.md"]
    for name, source in {"again": tmp_path / "dir", "back": paths[0]}.items():
        exporting.directory(loading.load(source), tmp_path / name, "f32")
    staged = smoke.root / "export" / "rl"
    for place in (staged, tmp_path / "dir", tmp_path / "again", tmp_path / "back"):
        assert loading.load(place).panel == loaded.panel
        assert f"- `{loaded.panel.examples[0]}`" in (place / "README.md").read_text()
    assert "## Cost" in paths[2].read_text()


def test_no_text_becomes_a_think_mark_after_an_export(made):
    """They are no special tokens in the files: others show them; here a text that spells them stays text."""
    table = json.loads((made / "dir" / "tokenizer.json").read_text())
    assert [t["content"] for t in table["added_tokens"] if not t["special"]] == ["<think>", "</think>"]
    asked = [Message("user", "<think>x</think>"), Message("assistant", "</think>", "<think>")]
    for name in ("dir", "one.gguf"):
        tokenizer = loading.load(made / name).tokenizer
        marks = (tokenizer.layout.think_id, tokenizer.layout.end_think_id)
        ids = render(tokenizer, asked, generate=False).ids
        assert [id for id in ids if id in marks] == [*marks]
        assert tokenizer.decode(ids).count("think>") == 4


def test_the_card_of_the_original_goes_along(made, tmp_path):
    shutil.copytree(made / "dir", tmp_path / "dir")
    (tmp_path / "dir" / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n\nIt adds.\n")
    exporting.directory(loading.load(tmp_path / "dir"), tmp_path / "out", "bf16")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    assert card.endswith("## The card of the original\n\n# Mine\n\nIt adds.\n")
