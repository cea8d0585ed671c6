"""What a run read is a part of what it is; it goes on under other steps, threads and texts if asked."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from nomoat import files
from nomoat.run.directory import Run
from nomoat.stages.inputs import sha256
from nomoat.tasks import families

RECIPE = """
name = "few"
threads = 1
models.main = {n_layers = 1, d_model = 16, context = 128, attention = {kind = "grouped", n_heads = 2,
    n_kv_heads = 1, d_head = 8}, ffn = {kind = "dense", d_hidden = 32}}
stages = [
    {kind = "tokenizer", vocab_size = 600, text = "words.txt"},
    {kind = "pretrain", steps = 6, rows = 2, context = 32, text = "corpus"},
    {kind = "sft", steps = 3, rows = 2, context = 32, shares = {tasks = 1.0}, tasks = {"sums.jsonl" = [0]},
        task_documents = 20},
    {kind = "eval", tasks = {lamp = [4]}, problems = 1, samples = 1, ngram_orders = [], heldout_bytes = 100},
    {kind = "export"},
]
"""


@pytest.fixture(scope="module")
def done(forge, tmp_path_factory):
    """A folder with a recipe, what it reads and a finished run, in which nobody may write."""
    place = tmp_path_factory.mktemp("few")
    (place / "few.toml").write_text(RECIPE.replace("\n    ", " "))
    (place / "words.txt").write_text("the cat sat on the mat and the dog ran after it again\n" * 20)
    (place / "corpus").mkdir()
    (place / "corpus" / "a.txt").write_text("one fish two fish red fish blue fish\n" * 40)
    rows = [{"question": f"{i} + {i}?", "answer": str(2 * i)} for i in range(60)]
    (place / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = forge("run", "few.toml", "--out", "run", cwd=place)
    assert ran.code == 0, ran.err
    return place


@pytest.fixture
def place(done, tmp_path):
    """A copy of it to work in."""
    import shutil

    return shutil.copytree(done, tmp_path / "few")


def finished(root):
    return list(Run.open(root)._ends())


def test_a_model_has_the_tokens_that_the_text_gave(done):
    run = Run.open(done / "run")
    size = len(json.loads((done / "run/tokenizer/tokenizer.json").read_text())["model"]["vocab"])
    assert 264 < size < 600
    assert run.weights("sft").spec["vocab_size"] == size
    assert f"the text gave {size} of 600 tokens" in run.events("note", "pretrain")[0]["text"]


@pytest.mark.parametrize(
    ("file", "stages", "kept"),
    [
        ("words.txt", ["tokenizer"], []),
        ("corpus/no.jsonl", ["pretrain"], ["tokenizer"]),
        ("corpus/a.txt", ["pretrain"], ["tokenizer"]),
        ("corpus/new.txt", ["pretrain"], ["tokenizer"]),
        ("sums.jsonl", ["sft"], ["tokenizer", "pretrain"]),
    ],
)
def test_what_changed_since_it_was_read_is_told_and_done_again_elsewhere(forge, place, file, stages, kept):
    before = (place / "run/events.jsonl").read_bytes()
    with (place / file).open("a") as text:
        text.write('{"question": "1 + 1?", "answer": "2"}\n')
    again = forge("run", "few.toml", "--out", "run", cwd=place)
    assert again.code == 2
    assert "changed since it was read" in again.err
    for stage in stages:
        assert f"  {stage}: " in again.err
    assert "--out OTHER --from run" in again.err
    assert "--continue" in again.err
    assert (place / "run/events.jsonl").read_bytes() == before
    other = forge("tokenizer", "--recipe", "few.toml", "--out", "other", "--from", "run", cwd=place)
    assert other.code == 0, other.err
    assert f"taken over from run: {', '.join(kept) or 'nothing'}" in other.err
    assert "changed since, and so done again" in other.err


def test_what_was_only_touched_or_is_gone_has_not_changed(forge, place):
    (place / "corpus/a.txt").touch()
    (place / "words.txt").unlink()
    again = forge("sft", "--out", "run", cwd=place)
    assert again.code == 0, again.err
    assert "done already" in again.err


def test_what_changed_is_accepted_once_and_stays_in_the_receipt(forge, place):
    (place / "corpus/a.txt").write_text("another fish\n" * 50)
    accepted = forge("sft", "--out", "run", "--continue", cwd=place)
    assert accepted.code == 0, accepted.err
    assert forge("sft", "--out", "run", cwd=place).code == 0
    receipt = json.loads(forge("receipt", "run", "--json", cwd=place).out)
    assert [line.partition(" (sha256")[0] for line in receipt["lineage"]] == ["pretrain: text corpus"]


def test_what_a_stage_left_is_what_another_starts_from(forge, place):
    weights = place / "run/pretrain/model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    done = forge("sft", "--out", "run", "--set", "steps=5", "--continue", cwd=place)
    assert done.code == 2
    found = "run/pretrain/model is not what stage pretrain left"
    assert found in done.err
    for verb in (("export", "run:pretrain", "--out", "away"), ("chat", "run:pretrain", "-p", "hi")):
        assert found in forge(*verb, cwd=place).err
    assert not (place / "away").exists()


def test_a_tokenizer_that_was_changed_is_told_by_every_verb(forge, place):
    file = place / "run/tokenizer/tokenizer.json"
    file.write_text(file.read_text() + "\n")
    for verb in (["run", "few.toml", "--out"], ["eval"], ["export"], ["chat", "-p", "hi"]):
        done = forge(*verb, "run", cwd=place)
        assert (done.code, "is not the tokenizer that this run trained" in done.err) == (2, True), verb


def test_an_export_that_is_gone_is_made_again_and_one_that_was_changed_is_told(forge, place):
    exported = place / "run/export/sft"
    before = files.sha256(exported)
    shutil.rmtree(exported)
    assert forge("export", "run", cwd=place).code == 0
    assert files.sha256(exported) == before
    (exported / "config.json").write_text("{}")
    for verb in (["export", "run"], ["run", "few.toml", "--out", "run"]):
        done = forge(*verb, cwd=place)
        assert (done.code, "run/export/sft is not what stage export left" in done.err) == (2, True), verb


def test_scores_say_what_has_changed_since_they_were_measured(forge, place):
    (place / "mine.py").write_text((Path(families.__file__).with_name("lamp.py")).read_text())
    run = ["run", "few.toml", "--out", "run", "--set", "eval.tasks={'mine.py'=[4]}", "--continue"]
    assert forge(*run, cwd=place).code == 0
    assert "measured before" not in forge("eval", "run", cwd=place).err
    with (place / "mine.py").open("a") as task:
        task.write("# more\n")
    done = forge("eval", "run", cwd=place)
    assert (done.code, "measured before this changed" in done.err) == (0, True)
    assert "eval: task mine.py" in done.err
    (place / "mine.py").unlink()
    assert "measured before this: no task file at mine.py" in forge("eval", "run", cwd=place).err


def test_more_steps_and_threads_are_refused_by_default_and_go_on_if_asked(forge, place):
    changes = "--set", "pretrain.steps=9", "threads=2"
    refused = forge("run", "few.toml", "--out", "run", *changes, cwd=place)
    assert refused.code == 2
    assert "--continue" in refused.err
    went_on = forge("pretrain", "--out", "run", *changes, "--continue", cwd=place)
    assert went_on.code == 0, went_on.err
    assert "again from nothing: sft, eval, export" in went_on.err
    run = Run.open(place / "run")
    assert [event["step"] for event in run.curve("pretrain")] == list(range(1, 10))
    assert finished(place / "run") == ["tokenizer", "pretrain"]
    rest = forge("run", "few.toml", "--out", "run", *changes, cwd=place)
    assert rest.code == 0, rest.err
    assert "1 cpu unit, then 2 cpu units" in " ".join(rest.out.split())
    lineage = json.loads(forge("receipt", "run", "--json", cwd=place).out)["lineage"]
    assert "stages.pretrain.steps: the run has 6, the recipe now has 9" in lineage
    assert [end["outputs"].get("means", {}).keys() for end in run.events("stage_end", "eval")] == [
        {"pretrain", "sft"}
    ] * 2


@pytest.mark.parametrize("kind", ["continue", "stage_start"])
def test_a_kill_while_it_takes_another_recipe_loses_nothing(forge, place, kind):
    command = "sft", "--out", "run", "--set", "steps=5", "--continue"
    killed = forge(*command, cwd=place, trap={"signal": signal.SIGKILL, "kind": kind})
    assert killed.code == -signal.SIGKILL
    went_on = forge(*command, cwd=place)
    assert went_on.code == 0, went_on.err
    run = Run.open(place / "run")
    assert [event["step"] for event in run.curve("sft")] == [1, 2, 3, 4, 5]
    assert finished(place / "run") == ["tokenizer", "pretrain", "sft"]


def test_stages_to_come_may_be_others(forge, place):
    recipe = (place / "few.toml").read_text()
    other = '{kind = "sft", name = "sft2", steps = 2, context = 32, text = "corpus"}'
    (place / "few.toml").write_text(recipe.replace('{kind = "export"}', other))
    assert forge("sft", "--out", "run", "--recipe", "few.toml", "--name", "sft2", cwd=place).code == 2
    went_on = forge("sft", "--out", "run", "--recipe", "few.toml", "--name", "sft2", "--continue", cwd=place)
    assert went_on.code == 0, went_on.err
    assert went_on.err.count("stages") == 1
    assert finished(place / "run") == ["tokenizer", "pretrain", "sft", "eval", "export", "sft2"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("seed=1", "seed: the run has 0, the recipe now has 1"),
        ("pretrain.rows=3", "stages.pretrain.rows: the run has 2, the recipe now has 3"),
        ("pretrain.steps=5", "stages.pretrain.steps: has done 6, the recipe now has 5"),
        ("tokenizer.vocab_size=500", "stages.tokenizer.vocab_size"),
        ("models.main.n_layers=2", "models.main.n_layers: the run has 1, the recipe now has 2"),
    ],
)
def test_what_no_stage_can_go_on_with_is_refused(forge, done, change, complaint):
    before = (done / "run/events.jsonl").read_bytes(), (done / "run/recipe.json").read_bytes()
    refused = forge("run", "few.toml", "--out", "run", "--set", change, "--continue", cwd=done)
    assert refused.code == 2
    assert complaint in refused.err
    assert ((done / "run/events.jsonl").read_bytes(), (done / "run/recipe.json").read_bytes()) == before


@pytest.mark.parametrize(
    ("stage", "room", "file"),
    [
        ("tokenizer", 900, "recipe.json"),
        ("tokenizer", 4_400, "tokenizer/tokenizer.json"),
        ("pretrain", 12_000, "model.safetensors"),
    ],
)
def test_a_disk_that_fills_up_leaves_nothing_half_written(forge, done, tmp_path, stage, room, file):
    root = tmp_path / "run"
    command = stage, "--recipe", "few.toml", "--out", root
    if stage == "pretrain":
        assert forge("tokenizer", *command[1:], cwd=done).code == 0
    full = forge(*command, cwd=done, trap={"file_bytes": room})
    assert full.code == 2, full.err
    assert "no space for" in full.err
    assert file in full.err
    assert "free some, and run the same command again" in full.err
    names = [path.name for path in root.rglob("*")]
    assert not [name for name in names if ".partial" in name or name.startswith(".")]
    again = forge(*command, cwd=done)
    assert again.code == 0, again.err
    left = again.out.strip().removeprefix(str(root)).strip("/")
    assert sha256(root / left) == sha256(done / "run" / left)
