"""Bad input gets found, expected and what to do; exit code 2, no traceback, and nothing that was there is lost."""

import json
import shutil

import pytest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("pretrain.stepz=3", "did you mean `steps`"),
        ("sft.optim.muon_lrr=3", "did you mean `muon_lr`"),
        (
            "models.main.attention.d_rope=7",
            "`models.main.attention.d_rope` = 7: expected a multiple of 2; choose",
        ),
        ("models.main.ffn.n_groups=3", "expected n_groups to divide"),
        ("models.main.attention.n_heds=3", "did you mean `n_heads`"),
        ("pretrain.steps=many", "expected a whole number"),
        ("pretrain.model=mian", "did you mean `main`"),
        ("rl.tasks.lamp=[99]", "has level 99"),
        ("eval.tasks.lamp=[4,4]", "has level 4 twice"),
        ("rl.tasks.lampe=[4]", "no task 'lampe'"),
        ("rl.from=sfft", "did you mean `sft`"),
        ("pretain.steps=3", "did you mean `pretrain`"),
        ("sft.shares.code=0.5", "known:"),
        ("pretrain.steps", "has no `=`"),
        ("pretrain.steps.many=3", "`steps` is 30, no table; set it as a whole"),
        ("pretrain.hub.nam=x", "unknown key `pretrain.hub.nam`; did you mean `name`"),
        ("device=tpu", 'expected "cpu", "cuda"'),
        ("device=cuda", "no CUDA device was found"),
        ("pretrain.text=nowhere.txt", "nothing at nowhere.txt"),
        ("models.main.positions=learned", "which is planned but not computed"),
        ("distill.inherit=true", "a student that inherits needs the same attention"),
        ("distill.policy_tasks={lamp=[99]}", "`distill.policy_tasks.lamp` has level 99"),
        ('eval.models=["rll"]', "did you mean `rl`"),
        ('export.models=["rll"]', "did you mean `rl`"),
    ],
)
def test_a_recipe_that_cannot_be(forge, recipe, tmp_path, change, message):
    done = forge("run", recipe, "--out", tmp_path / "run", "--set", change, env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.code == 2, done
    assert message in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "is empty"),
        ("binary.txt", bytes(range(256)) * 4, "expected"),
        ("latin.txt", "Es grünt so grün\n".encode("latin-1"), "is not UTF-8"),
        ("long.txt", b"a" * 3000, "expected"),
        ("broken.jsonl", b'{"text": "one"}\n{"text": "tw\n', ":2 is not JSON"),
        ("keys.jsonl", b'{"words": "one"}\n', "none of them a text"),
        ("page.docx", b"PK", ".txt"),
        ("absent.txt", None, "nothing at"),
    ],
)
def test_text_that_cannot_be_read(forge, recipe, tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    trap = {"set": ["nomoat.data.readers", "LONGEST_LINE_BYTES", 2000]}
    done = forge("tokenizer", "--recipe", recipe, "--out", tmp_path / "run", "--set", f"text={path}", trap=trap)
    assert done.code == 2, done
    assert name in done.err
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists()


def test_a_stage_whose_beginning_is_not_there_writes_nothing(forge, recipe, tmp_path):
    for stage, needed in (("pretrain", "tokenizer"), ("rl", "tokenizer")):
        done = forge(stage, "--recipe", recipe, "--out", tmp_path / "run", "--set", "steps=3")
        assert (done.code, f"run {needed} first" in done.err) == (2, True)
        assert not (tmp_path / "run").exists()


def test_a_mended_mistake_goes_on_in_the_same_directory(forge, recipe, tmp_path):
    """What is wrong with a later line is found before the run is made."""
    text = tmp_path / "text.jsonl"
    lines = [json.dumps({"text": f"house {n} and garden"}) for n in range(300)]
    text.write_text("\n".join([*lines, '{"text": "tw']))
    asked = ["tokenizer", "--recipe", recipe, "--out", tmp_path / "run", "--set", f"text={text}"]
    wrong = forge(*asked)
    assert (wrong.code, ":301 is not JSON" in wrong.err) == (2, True)
    assert not (tmp_path / "run").exists()
    text.write_text("\n".join(lines))
    assert forge(*asked, "vocab_size=300").code == 0
    changed = forge(*asked)
    assert (changed.code, "tokenizer.vocab_size: the run has 300" in changed.err) == (2, True)


@pytest.mark.parametrize(
    "command",
    [["receipt"], ["report"], ["eval"], ["chat", "-p", "hello"], ["export"], ["sft", "--out"]],
    ids=lambda c: c[0],
)
@pytest.mark.parametrize("kind", ["missing", "foreign", "damaged"])
def test_a_directory_that_is_no_run(forge, tmp_path, command, kind):
    place = tmp_path / "place"
    if kind != "missing":
        place.mkdir()
        (place / "letter.txt").write_text("dear diary")
    if kind == "damaged":
        (place / "recipe.json").write_text("{")
        (place / "events.jsonl").write_text("")
    done = forge(command[0], *command[1:], place)
    assert done.code == 2, done
    assert str(place) in done.err
    assert "expected" in done.err
    assert "Traceback" not in done.err
    if kind != "missing":
        assert (place / "letter.txt").read_text() == "dear diary"
    else:
        assert not place.exists()


def test_a_run_is_not_made_among_other_files(forge, recipe, tmp_path):
    (tmp_path / "letter.txt").write_text("dear diary")
    done = forge("run", recipe, "--out", tmp_path)
    assert done.code == 2
    assert "is not empty and has no recipe.json" in done.err
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]
    file = forge("run", recipe, "--out", tmp_path / "letter.txt")
    assert file.code == 2
    assert (tmp_path / "letter.txt").read_text() == "dear diary"


def test_a_tokenizer_of_another_run_is_refused(forge, smoke, recipe, tmp_path):
    root, other = tmp_path / "run", tmp_path / "other"
    assert forge("tokenizer", "--recipe", recipe, "--out", root).code == 0
    assert forge("tokenizer", "--recipe", recipe, "--out", other, "--set", "text_bytes=9000").code == 0
    shutil.copy(other / "tokenizer" / "tokenizer.json", root / "tokenizer" / "tokenizer.json")
    done = forge("pretrain", "--out", root)
    assert done.code == 2
    assert "is not the tokenizer that this run trained" in done.err


def test_a_recipe_that_is_none(forge, tmp_path):
    assert "no recipe at" in forge("run", tmp_path / "none.toml").err
    (tmp_path / "bad.toml").write_text("steps = = 3")
    done = forge("run", tmp_path / "bad.toml")
    assert (done.code, "is not TOML" in done.err) == (2, True)


def test_words_that_are_no_command(forge):
    for argv in (["frobnicate"], ["run"], ["chat", "--loud"], ["plan", "--gpus", "many"]):
        done = forge(*argv)
        assert done.code == 2, argv
        assert "Traceback" not in done.err
        assert done.out == ""


def test_a_flag_that_would_be_ignored_is_refused(forge, smoke):
    for argv, message in (
        (["eval", smoke.root, "--problems", "20"], "expected no --problems"),
        (["eval", smoke.root / "rl" / "model", "--task", "lamp", "--max-tokens", "128"], "which is 128; lower it"),
        (["eval", smoke.root, "--think", "on"], "expected no --problems"),
        (["eval", "smollm2", "--again"], "is no run; expected no --name"),
        (["export", smoke.root, "--type", "bf16"], "found no --out"),
    ):
        done = forge(*argv)
        assert (done.code, message in done.err, done.out) == (2, True, "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model", "deepseek-v4"], "did you mean `deepseek-v3`"),
        (["--model", "deepseek-v3", "--gpu", "h900"], "did you mean"),
        (["--model", "deepseek-v3", "--tokens", "lots"], "expected a positive number"),
        (["--model", "deepseek-v3", "--set", "seed=1"], "--set seed=1 is of a recipe"),
        (["smoke", "--tokens", "3T"], "--tokens and --context are of a --model"),
        (["smoke", "--context", "3"], "--tokens and --context are of a --model"),
        (["smoke", "--gpus", "2"], "runs on the processor; add --gpu"),
        (["smoke", "--gpu", "h100", "--gpus", "0"], "expected one or more"),
        (["smoke", "--gpu", ""], "nothing behind --gpu"),
        (["smoke", "--set", 'budget=""'], 'budget ""; expected an amount and a unit'),
        (["smoke", "--gpu", "rtx-4091"], "did you mean `rtx-4090`"),
        (["smoke", "--mfu", "7"], "expected a share of the peak"),
        (["smoke", "--set", "device=gpu"], '`device` = \'gpu\': expected "cpu", "cuda"'),
        (["smoke", "--set", "pretrain.text=nowhere.txt"], "nothing at nowhere.txt"),
        ([], "`nomoat plan --list` names models"),
    ],
)
def test_a_plan_that_cannot_be(forge, argv, message):
    done = forge("plan", *argv)
    assert done.code == 2
    assert message in done.err


def test_the_plan_of_v3_has_the_promised_keys(forge):
    done = forge("plan", "--model", "deepseek-v3", "--gpu", "h800", "--gpus", "2048", "--tokens", "14.8T", "--json")
    plan = json.loads(done.out)
    assert plan["params_total"] == 671_026_419_200
    assert {"params_active", "flops_total", "gpu_hours", "usd"} <= set(plan)
    assert 2.4e6 < plan["gpu_hours"] < 3.1e6
