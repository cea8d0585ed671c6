"""A recipe that begins with given weights: what is read, what is said before, what stages make of them."""

import json

import borrowed
import pytest
import torch
from brought import DEEPSEEK, LLAMA, TOKENIZER, V, saved, spoilt, toy

from nomoat.config import ConfigError, DataError, WeightsError
from nomoat.model.lora import Lora
from nomoat.model.transformer import Transformer
from nomoat.report import card
from nomoat.run.directory import Run
from nomoat.run.record import difference, plain
from nomoat.run.stop import Stop
from nomoat.serve import exporting, loading
from nomoat.stages import footprint, inputs
from nomoat.stages.pipeline import check, run_stages
from nomoat.stages.recipe import resolve
from nomoat.weights import adapters

TASKS = {"sorting": [3]}
READ = {"shares": {"tasks": 1.0}, "tasks": TASKS, "task_documents": 20}
TRAINED = {"steps": 1, "rows": 2, "context": 128, **READ}
ASKED = {"tasks": TASKS, "max_new_tokens": 4}


@torch.no_grad()
def apart(one: Transformer, other: Transformer) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one.parameters(), other.parameters()))


def recipe_of(models, *stages):
    return resolve({"name": "given", "threads": 1, "models": models, "stages": list(stages)})


def done(root, recipe) -> Run:
    run = Run.create(root, recipe.table)
    with Stop() as stop, run.locked():
        run_stages(run, recipe, stop)
    return run


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("given") / "base"
    return path, saved(path)


@pytest.fixture(scope="module")
def taught(base, tmp_path_factory):
    """A run of every kind of stage that can begin with given weights."""
    student = {"n_layers": 1, "d_model": 32, "context": 128, "ffn": {"kind": "dense", "d_hidden": 32}}
    recipe = recipe_of(
        {"main": {"from": str(base[0])}, "student": {**student, "attention": LLAMA.attention.model_dump()}},
        {"kind": "pretrain", **TRAINED},
        {"kind": "sft", **TRAINED},
        {"kind": "rl", "steps": 1, "prompts": 2, "group": 2, **ASKED},
        {"kind": "distill", **TRAINED, "steps": 2, "policy_steps": 1, "prompts": 2, "group": 2, **ASKED},
        {"kind": "eval", "problems": 2, "samples": 1, "ngram_orders": [], "heldout_bytes": 200, **ASKED},
    )
    return done(tmp_path_factory.mktemp("taught") / "run", recipe)


def test_every_stage_goes_on_from_given_weights_with_their_tokenizer_and_template(base, taught):
    path, model = base
    left = taught.all_weights()
    assert list(left) == ["main", "pretrain", "sft", "rl", "distill"]
    kept = loading.load(taught.root, "main")
    assert all(torch.equal(a, b) for a, b in zip(kept.model.parameters(), model.parameters()))
    assert kept.tokenizer.layout.template == borrowed.CHATML
    assert kept.tokenizer.fingerprint == TOKENIZER.fingerprint
    moved = loading.load(f"{taught.root}:pretrain").model  # on from there: near, and not the same
    assert 0 < apart(moved, model) < 0.1
    assert left["distill"].spec["vocab_size"] == V
    assert {event["model"] for event in taught.events("score", "eval")} == set(left)


def test_what_was_read_is_a_part_of_what_the_stage_is(base, taught, tmp_path):
    path, _ = base
    (read,) = [event for event in taught.events("read", "main") if event["what"] == "model"]
    assert (read["source"], read["sha256"]) == (str(path.resolve()), inputs.sha256(path))
    again = resolve(taught.recipe)  # a run's own table is whole: nothing is read for it
    assert difference(plain(again.table), taught.recipe) == []
    assert inputs.changes(taught, again) == []
    before = (path / "config.json").read_bytes()
    (path / "config.json").write_bytes(before + b"\n")
    try:
        assert [change.stage for change in inputs.changes(taught, again)] == ["main"]
    finally:
        (path / "config.json").write_bytes(before)
    text = card.of_run(taught, "rl", "a few parameters")
    assert f"trained from the weights of `{path}`" in text
    assert "licence: that its files don't name" in text


def test_a_model_of_deepseeks_shape_and_a_runs_stage_are_given_too(taught, tmp_path):
    saved(tmp_path / "v3", DEEPSEEK)
    rl = {"kind": "rl", "steps": 1, "prompts": 2, "group": 2, **ASKED}
    first = done(tmp_path / "a", recipe_of({"main": {"from": str(tmp_path / "v3"), "context": 100}}, rl))
    assert first.weights("rl").spec["context"] == 100
    second = recipe_of({"main": {"from": f"{tmp_path / 'a'}:rl"}})
    assert second.models["main"] == DEEPSEEK.changed(context=100)
    assert second.plan(second.stage("main"))["parameters"] > 0


def test_a_given_student_is_where_the_student_starts(base, tmp_path):
    path, model = base
    saved(tmp_path / "small", LLAMA.changed(n_layers=1), seed=5)
    models = {"main": {"from": str(path)}, "student": {"from": str(tmp_path / "small")}}
    recipe = recipe_of(models, {"kind": "distill", **TRAINED, "policy_steps": 0})
    assert recipe.stage("distill").source == "main"
    run = done(tmp_path / "run", recipe)
    ended, began = loading.load(run.root, "distill").model, toy(LLAMA.changed(n_layers=1), 5)
    assert 0 < apart(ended, began) < 0.1


@pytest.mark.parametrize(
    ("what", "error", "complaint"),
    [
        ("no turns", WeightsError, "this tokenizer has no chat template"),
        ("answers dropped", WeightsError, "marks '<|im_end|>.n' as what the assistant wrote"),
        ("no assistant", WeightsError, "the chat template marks"),
        ("short", DataError, r"the context of rl \(stage rl\) is 12; expected room for an answer"),
        ("cut", WeightsError, "model.safetensors"),
    ],
)
def test_what_cant_be_is_said_before_anything_is_loaded(tmp_path, monkeypatch, what, error, complaint):
    monkeypatch.setattr(loading, "load", None)
    with pytest.raises(error, match=complaint):
        check(recipe_of({"main": spoilt(tmp_path / "m", what)}, {"kind": "rl", "steps": 1, **ASKED}))


def test_weights_that_are_no_numbers_are_refused_before_a_stage_trains(tmp_path):
    recipe = recipe_of({"main": spoilt(tmp_path / "m", "nan")}, {"kind": "rl", "steps": 1, **ASKED})
    check(recipe)  # headers don't tell
    with pytest.raises(WeightsError, match=r"blocks.0.ffn.w_down.weight holds 1 values that are no finite"):
        done(tmp_path / "run", recipe)


@pytest.mark.parametrize(
    ("models", "stages", "complaint"),
    [
        ({"main": {"from": "BASE", "d_model": 8}}, [], "`models.main.d_model` stands beside from = "),
        ({"main": {"from": 3}}, [], "`models.main.from` = 3: expected a text"),
        ({"main": {"from": "BASE"}}, [{"kind": "tokenizer"}], "trains a tokenizer, and models.main brings"),
        ({}, [{"kind": "import"}], "takes in `main`, and no model of that name has a `from`"),
    ],
)
def test_pairs_that_cant_be_are_told(base, models, stages, complaint):
    models = {k: {**m, "from": str(base[0]) if m["from"] == "BASE" else m["from"]} for k, m in models.items()}
    with pytest.raises(ConfigError, match=complaint):
        recipe_of(models, *stages)


LORA = {"rank": 2, "alpha": 4}


@pytest.fixture(scope="module", params=["llama", "deepseek"])
def adapted(request, tmp_path_factory):
    """A run whose stages learn beside a base."""
    path = tmp_path_factory.mktemp("lora")
    base = saved(path / "base", {"llama": LLAMA, "deepseek": DEEPSEEK}[request.param])
    fast = {"matrices": "adamw", "adam_lr": 0.02}
    recipe = recipe_of(
        {"main": {"from": str(path / "base"), "lora": LORA}},
        {"kind": "sft", **TRAINED, "steps": 2, "precision": "fp32", "optim": fast},
        {"kind": "rl", "steps": 2, "prompts": 2, "group": 2, "kl": 0.1, "optim": fast, **ASKED},
    )
    assert [getattr(stage, "lora", None) for stage in recipe.stages] == [None, Lora(**LORA), Lora(**LORA)]
    return base, done(path / "run", recipe)


def test_stages_learn_beside_the_base_and_leave_it_merged_and_the_adapter(adapted):
    base, run = adapted
    merged = loading.load(run.root, "sft").model
    assert 1e-3 < apart(merged, base) < 0.5
    assert torch.equal(merged.embed.weight, base.embed.weight)
    by_adapter = loading.load(run.root / "sft" / "adapter")  # in PEFT's layout, its base named in it
    assert apart(by_adapter.model, merged) < 1e-6
    assert by_adapter.tokenizer.fingerprint == TOKENIZER.fingerprint
    assert not any(buffer.any() for buffer in merged.buffers())  # no balance is moved beside an adapter
    notes = [event["text"] for event in run.events("note", "sft")]
    n_matrices = len(adapters.places(base))
    assert any(f"merged {n_matrices} matrices, logits as beside the base within" in text for text in notes)


def test_the_adapter_of_a_run_is_one_for_all_its_stages(adapted, tmp_path):
    base, run = adapted
    exporting.adapter(run, "rl", tmp_path / "out")
    expected = loading.load(run.root, "rl").model
    assert apart(loading.load(tmp_path / "out").model, expected) < 1e-5
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["r"] == 2 * LORA["rank"]
    assert config["base_model_name_or_path"] == str((run.root / "main" / "model").resolve())


def test_new_weights_have_nothing_to_learn_beside():
    table = {"main": {**LLAMA.model_dump(), "lora": LORA}}
    with pytest.raises(ConfigError, match="`pretrain.lora` learns beside weights that stay, and models.main"):
        recipe_of(table, {"kind": "pretrain", **TRAINED})


def test_what_the_machine_cant_hold_is_said_with_what_would_fit(base, monkeypatch):
    models = {"main": {"from": str(base[0])}}
    sft = {"kind": "sft", **TRAINED, "rows": 4096, "precision": "fp32"}
    recipe = recipe_of(models, sft)
    needed = footprint.planned(recipe, recipe.stage("sft"))
    monkeypatch.setattr(loading, "load", None)
    monkeypatch.setattr(footprint.memory, "available_bytes", lambda: int(needed) + 1)
    check(recipe)
    monkeypatch.setattr(footprint.memory, "available_bytes", lambda: int(0.6 * needed))
    with pytest.raises(ConfigError, match=r"stage sft takes about .*fit: sft.lora=.* and sft.rows=2048 \("):
        check(recipe)
    monkeypatch.setattr(footprint.memory, "available_bytes", lambda: 10)
    with pytest.raises(ConfigError, match="choose a smaller model"):
        check(recipe)


def test_an_adapter_learns_as_many_numbers_as_are_planned(base):
    lora = Lora(rank=3, targets=("q_proj", "down_proj"))
    parts = adapters.new_parts(base[1], lora, 0)
    pairs = [part.pair for of_module in parts.values() for part in of_module.values()]
    assert footprint.n_learning(LLAMA, lora) == sum(pair.down.numel() + pair.up.numel() for pair in pairs)
