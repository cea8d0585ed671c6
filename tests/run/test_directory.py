"""A run directory knows its recipe, its format and what its stages left."""

import json

import pytest

from nomoat.config import ConfigError, DataError
from nomoat.run.directory import Run
from nomoat.run.record import difference

RECIPE = {
    "name": "x",
    "seed": 3,
    "models": {"main": {"n_layers": 2, "lr": 1.0}},
    "stages": [
        {"kind": "pretrain", "steps": 10},
        {"kind": "rl", "name": "rl1"},
        {"kind": "rl", "name": "rl2"},
    ],
}


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", RECIPE)


def reordered(value):
    if isinstance(value, dict):
        return {k: reordered(value[k]) for k in reversed(value)}
    return [reordered(v) for v in value] if isinstance(value, list) else value


def test_the_same_recipe_in_another_order_reopens(run):
    run.log("step", stage="s", step=1, seconds=1)
    again = Run.create(run.root, reordered(RECIPE) | {"seed": 3.0})
    assert (again.seed, len(again.events())) == (3, 1)
    record = json.loads((run.root / "recipe.json").read_text())
    assert record["recipe"] == RECIPE
    assert {"nomoat", "commit", "libraries"} < record.keys()
    assert record["libraries"]["torch"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda r: r["models"]["main"].update(n_layers=3),
            "models.main.n_layers: the run has 2, the recipe now has 3",
        ),
        (
            lambda r: r["stages"][0].pop("steps"),
            "pretrain.steps: the run has 10, the recipe now has no such key",
        ),
        (
            lambda r: r["stages"][2].update(lr=0.1),
            "stages.rl2.lr: the run has no such key, the recipe now has 0.1",
        ),
        (
            lambda r: r["stages"].pop(),
            "stages: the run has [pretrain, rl1, rl2], the recipe now has [pretrain, rl1]",
        ),
        (lambda r: r["stages"].reverse(), "the recipe now has [rl2, rl1, pretrain]"),
        (lambda r: r.update(seed="3"), 'seed: the run has 3, the recipe now has "3"'),
        (lambda r: r.update(seed=True), "seed: the run has 3, the recipe now has true"),
    ],
)
def test_a_changed_recipe_is_refused_with_the_difference(run, change, line):
    changed = json.loads(json.dumps(RECIPE))
    change(changed)
    run.log("work", stage="pretrain", seconds=1)
    before = (run.root / "recipe.json").read_bytes()
    with pytest.raises(ConfigError) as caught:
        Run.create(run.root, changed)
    assert line in str(caught.value)
    assert "another --out" in str(caught.value)
    with pytest.raises(ConfigError) as told:
        run.check_goes_on(changed, RECIPE)
    assert str(told.value) == str(caught.value)
    assert (run.root / "recipe.json").read_bytes() == before
    assert len(difference(RECIPE, changed)) <= 2 or "stages" in line


def test_a_run_for_which_nothing_was_done_takes_another_recipe(run):
    changed = {**RECIPE, "seed": 4}
    run.log("stage_start", stage="pretrain", config={"steps": 10})
    run.check_goes_on(changed, RECIPE)
    again = Run.create(run.root, changed)
    assert (again.recipe, again.events()) == (changed, [])
    again.log("work", stage="pretrain", seconds=1)
    with pytest.raises(ConfigError, match="seed: the run has 4"):
        Run.create(run.root, RECIPE)


def test_foreign_missing_and_broken_directories_are_clear_errors(tmp_path, run):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"thesis\.tex"):
        Run.create(tmp_path / "foreign", RECIPE)
    assert [p.name for p in (tmp_path / "foreign").iterdir()] == ["thesis.tex"]
    for place in (tmp_path / "nowhere", tmp_path / "foreign", tmp_path / "foreign" / "thesis.tex"):
        with pytest.raises(DataError, match="no run directory"):
            Run.open(place)
    with pytest.raises(DataError, match="cannot make a run"):
        Run.create(tmp_path / "foreign" / "thesis.tex", RECIPE)
    stages = ('"x"', '["x"]', '[{"name": "x"}]', "7", "[7]")
    odd = [f'{{"format": 3, "recipe": {{"stages": {found}}}}}' for found in stages]
    for text in ("", "[1]", "{", '{"recipe": 1}', "[" * 200_000, *odd):
        (run.root / "recipe.json").write_text(text)
        with pytest.raises(DataError, match="recipe"):
            Run.create(run.root, RECIPE)


@pytest.mark.parametrize(
    ("key", "value"), [("seed", 4), ("threadz", 3), ("stages", []), ("models", {"main": {"n_layers": 3}})]
)
def test_a_recipe_that_was_changed_by_hand_is_told(run, key, value):
    file = run.root / "recipe.json"
    record = json.loads(file.read_text())
    changed = {**record, "recipe": {**record["recipe"], key: value}}
    file.write_text(json.dumps(changed))
    for opened in (lambda: Run.open(run.root), lambda: Run.create(run.root, RECIPE)):
        with pytest.raises(DataError, match="recipe.json was changed by hand: its recipe has sha256"):
            opened()
    file.write_text(json.dumps(record))  # in other blanks and lines
    assert Run.open(run.root).recipe == RECIPE
    file.write_text(json.dumps({name: part for name, part in changed.items() if name != "sha256"}))
    assert Run.open(run.root).recipe[key] == value  # of an earlier version


def test_a_half_made_directory_can_be_made_again(tmp_path):
    for name in ("lock", ".recipe.json.1"):
        (tmp_path / name).write_text("{")
    assert Run.create(tmp_path, RECIPE).recipe == RECIPE


def test_a_run_opened_to_look_writes_nothing(run):
    look = Run.open(run.root)
    before = sorted(run.root.iterdir())
    with pytest.raises(DataError, match="opened to read"):
        look.log("note", stage=None, text="x")
    assert look.stage_dir("pretrain") == run.root / "pretrain"
    assert look.events() == []
    assert sorted(run.root.iterdir()) == before
    assert Run.open(run.root, write=True).stage_dir("pretrain").is_dir()


@pytest.mark.parametrize(
    "name", ["", "..", ".", "a/b", "/etc", "lock", "recipe.json", "events.jsonl", "a\n", "x" * 99]
)
def test_no_stage_name_leaves_the_directory(run, name):
    with pytest.raises(DataError, match="cannot be a stage's name"):
        run.stage_dir(name)


def test_a_run_under_other_libraries_says_so(run):
    record = json.loads((run.root / "recipe.json").read_text())
    record["libraries"]["torch"] = "0.0"
    (run.root / "recipe.json").write_text(json.dumps(record))
    with Run.create(run.root, RECIPE).locked():
        pass
    assert "0.0" in run.events("note")[0]["text"]


# --- format ---


@pytest.mark.parametrize("format", [None, 1, 2, "3"])
def test_a_run_of_another_format_is_refused_and_left_as_it_is(run, format):
    run.log("note", stage=None, text="x")
    record = json.loads((run.root / "recipe.json").read_text())
    assert record.pop("format") == 3
    old = json.dumps(record | ({} if format is None else {"format": format}) | {"commit": "abc"})
    (run.root / "recipe.json").write_text(old)
    for attempt in (
        lambda: Run.open(run.root),
        lambda: Run.open(run.root, write=True),
        lambda: Run.create(run.root, RECIPE),
        lambda: Run.fork(run, run.root, RECIPE),
    ):
        with pytest.raises(DataError, match=r"which nomoat abc made; expected format 3; start a new run"):
            attempt()
    assert (run.root / "recipe.json").read_text() == old


# --- what the stages left ---


def test_finished_is_the_last_word(run):
    assert run.finished("s") is None
    run.log("stage_start", stage="s", config={})
    run.log("stage_end", stage="s", outputs={"a": 1})
    assert run.finished("s")["outputs"] == {"a": 1}
    assert run.finished("other") is None
    run.log("stage_start", stage="s", config={})
    assert run.finished("s") is None


def leave(run, stage, **outputs):
    run.log("stage_start", stage=stage, config={})
    run.log("stage_end", stage=stage, outputs=outputs)


def test_which_weights_a_stage_left(run):
    with pytest.raises(DataError, match="no tokenizer yet"):
        run.tokenizer()
    with pytest.raises(DataError, match="no finished stage left a model"):
        run.weights()
    leave(run, "tokenizer", tokenizer="tokenizer", fingerprint="f" * 64)
    for stage in ("pretrain", "sft"):
        leave(run, stage, model=f"{stage}/model", spec={"n_layers": len(stage)})
    leave(run, "samples", samples="samples/samples.jsonl")
    assert list(run.all_weights()) == ["pretrain", "sft"]
    newest = run.weights()
    assert (newest.stage, newest.path, newest.spec) == ("sft", run.root / "sft/model", {"n_layers": 3})
    assert newest.tokenizer == run.tokenizer()
    assert (newest.tokenizer.path, newest.tokenizer.fingerprint) == (run.root / "tokenizer", "f" * 64)
    assert run.weights("pretrain").spec == {"n_layers": 8}
    with pytest.raises(DataError, match="did you mean `pretrain`"):
        run.weights("pretrian")
    leave(run, "eval", means={"pretrain": 0.5, "sft": 0.25})
    assert run.weights().stage == "pretrain"  # the best that was measured
    run.log("stage_start", stage="pretrain", config={})
    assert list(run.all_weights()) == ["sft"]  # it is being made again


def test_what_was_taken_over_from_another_run_must_still_be_that(tmp_path):
    recipe = {"stages": [{"kind": name, "name": name} for name in ("tokenizer", "pretrain")]}
    source = Run.create(tmp_path / "source", recipe)
    for stage in ("tokenizer", "pretrain"):
        source.stage_dir(stage).joinpath("file").write_text(stage)
    leave(source, "tokenizer", tokenizer="tokenizer", fingerprint="f" * 64)
    leave(source, "pretrain", model="pretrain", spec={}, sha256="1" * 64)
    run = Run.fork(source, tmp_path / "run", recipe)
    assert (run.root / "pretrain" / "file").read_text() == "pretrain"
    assert Run.fork(source, tmp_path / "run", recipe).all_weights().keys() == {"pretrain"}
    leave(source, "pretrain", model="pretrain", spec={}, sha256="2" * 64)
    with pytest.raises(DataError, match="source has another `pretrain` by now than .*run took over"):
        Run.fork(source, tmp_path / "run", recipe)


def test_a_fork_on_a_full_disk_goes_on_when_there_is_room(tmp_path, full_disk):
    recipe = {"stages": [{"kind": "tokenizer", "name": "tokenizer"}]}
    source = Run.create(tmp_path / "source", recipe)
    source.stage_dir("tokenizer").joinpath("file").write_text("x" * 20_000)
    leave(source, "tokenizer", tokenizer="tokenizer", fingerprint="f" * 64)
    with full_disk(10_000), pytest.raises(DataError, match=r"no space for .*run/tokenizer"):
        Run.fork(source, tmp_path / "run", recipe)
    assert not (tmp_path / "run" / "tokenizer").exists()
    assert Run.fork(source, tmp_path / "run", recipe).finished("tokenizer")
