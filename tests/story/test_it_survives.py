"""Killed, interrupted, starved or poisoned, a run ends in the bits of an undisturbed one, or says why it cannot."""

import random
import shutil
import signal

import pytest

from nomoat.run.directory import Run

TRAINED = ["pretrain", "extend", "sft", "rl", "distill"]
OFTEN = ("--set", "save_seconds=0")  # a checkpoint after each step; no part of the results


def killed(stage: str, kind: str, **where):
    return {"signal": signal.SIGKILL, "stage": stage, "kind": kind, **where}


@pytest.fixture(scope="module")
def tokenized(forge, recipe, tmp_path_factory):
    """A run that has its tokenizer, to be copied."""
    root = tmp_path_factory.mktemp("tokenized") / "run"
    assert forge("tokenizer", "--recipe", recipe, "--out", root, *OFTEN).code == 0
    return root


@pytest.fixture
def run_dir(tokenized, tmp_path):
    return shutil.copytree(tokenized, tmp_path / "run")


def notes(root) -> str:
    return "\n".join(e["text"] for e in Run.open(root).events("note"))


def assert_equals(smoke, root, weights, curve, stages=TRAINED):
    for stage in stages:
        assert curve(root, stage) == curve(smoke.root, stage)
        assert weights(root, stage) == weights(smoke.root, stage)


def measured(root) -> list:
    what = lambda e: tuple(str(e.get(key)) for key in ("name", "model", "family", "level"))
    return sorted({what(e): e["value"] for e in Run.open(root).events("score")}.items())


def test_kill_in_every_stage_changes_no_bit(forge, smoke, recipe, tmp_path, weights, curve):
    root = tmp_path / "run"
    moments = [
        killed("tokenizer", "stage_start"),
        killed("pretrain", "work"),
        killed("pretrain", "step", step=1),
        killed("pretrain", "step", step=14),
        {"signal": signal.SIGKILL, "writes": 5},
        killed("pretrain", "step", step=30),
        killed("extend", "step", step=3),
        killed("sft", "step", step=2),
        {"signal": signal.SIGKILL, "writes": 12},
        killed("rl", "step", step=2),
        killed("rl", "step", step=5),
        killed("distill", "step", step=3),
        killed("distill", "step", step=6),
        killed("distill", "work"),
        killed("eval", "score", name="accuracy/sampled"),
        killed("export", "work"),
    ]
    for trap in moments:
        assert forge("run", recipe, "--out", root, *OFTEN, trap=trap).code == -signal.SIGKILL, trap
    done = forge("run", recipe, "--out", root, *OFTEN)
    assert done.code == 0, done.err
    assert_equals(smoke, root, weights, curve)
    assert measured(root) == measured(smoke.root)
    redone = [e for e in Run.open(root).events("step") if e.get("redone")]
    assert redone
    assert "of it redone" in done.out


def at_random_moments(forge, smoke, recipe, root, weights, curve, seed: int, longest: float) -> int:
    rng, kills = random.Random(seed), 0
    while True:
        done = forge("run", recipe, "--out", root, *OFTEN, trap={"cpu_seconds": rng.uniform(0.1, longest)})
        if done.code == 0:
            break
        assert done.code == -signal.SIGPROF, done
        kills += 1
        longest *= 1.2  # so that it comes to an end
    assert_equals(smoke, root, weights, curve)
    return kills


@pytest.mark.check
def test_kill_at_random_moments_changes_no_bit(forge, smoke, recipe, tmp_path, weights, curve):
    assert at_random_moments(forge, smoke, recipe, tmp_path / "run", weights, curve, 0, 1.2) >= 1


@pytest.mark.check
@pytest.mark.parametrize("seed", range(1, 9))
def test_kill_at_many_random_moments_changes_no_bit(forge, smoke, recipe, tmp_path, weights, curve, seed):
    assert at_random_moments(forge, smoke, recipe, tmp_path / "run", weights, curve, seed, 0.7) > 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_saves_and_says_how_to_go_on(forge, smoke, recipe, tmp_path, weights, curve, number):
    root = tmp_path / "a run"
    trap = {"signal": number, "stage": "pretrain", "kind": "step", "step": 7}
    stopped = forge("run", recipe, "--out", root, trap=trap)
    assert stopped.code == 75
    assert f"nomoat run {recipe} --out '{root}'" in stopped.err
    assert "heard: stops at the next place" in stopped.err
    assert "Traceback" not in stopped.err
    assert max(p.name for p in (root / "pretrain" / "checkpoints").iterdir()) == "step_000007"
    assert Run.open(root).curve("pretrain")[-1]["step"] == 7
    assert forge("pretrain", "--out", root).code == 0
    assert_equals(smoke, root, weights, curve, ["pretrain"])
    assert not any(e.get("redone") for e in Run.open(root).events("step"))


def test_two_processes_do_not_share_a_directory(forge, recipe, run_dir):
    with Run.open(run_dir, write=True).locked():
        second = forge("run", recipe, "--out", run_dir, *OFTEN)
    assert second.code == 2
    assert "is in use by process" in second.err
    assert not (run_dir / "pretrain").exists()


def test_another_recipe_is_refused_with_the_difference(forge, smoke, recipe):
    before = (smoke.root / "events.jsonl").read_bytes()
    changes = "sft.steps=21", "models.main.ffn.d_expert=48"
    changed = forge("run", recipe, "--out", smoke.root, "--set", *changes)
    assert changed.code == 2
    assert "stages.sft.steps: the run has 20, the recipe now has 21" in changed.err
    assert "models.main.ffn.d_expert: the run has 32, the recipe now has 48" in changed.err
    assert (smoke.root / "events.jsonl").read_bytes() == before


def test_a_damaged_checkpoint_is_passed_over_loudly(forge, smoke, run_dir, weights, curve):
    assert forge("pretrain", "--out", run_dir, trap=killed("pretrain", "step", step=12)).code == -signal.SIGKILL
    older, newer = sorted((run_dir / "pretrain" / "checkpoints").iterdir())
    assert (older.name, newer.name) == ("step_000010", "step_000011")
    data = bytearray((newer / "rank_0000.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (newer / "rank_0000.safetensors").write_bytes(data)
    done = forge("pretrain", "--out", run_dir)
    assert done.code == 0, done.err
    assert "step_000011 is damaged" in done.err
    assert "step_000011 is damaged" in notes(run_dir)
    assert Run.open(run_dir).events("resume", "pretrain")[-1]["step"] == 10
    assert_equals(smoke, run_dir, weights, curve, ["pretrain"])


def test_a_full_disk_keeps_training(forge, smoke, run_dir, weights, curve):
    assert forge("pretrain", "--out", run_dir, trap=killed("pretrain", "step", step=3)).code == -signal.SIGKILL
    kept = sorted(p.name for p in (run_dir / "pretrain" / "checkpoints").iterdir())
    done = forge("pretrain", "--out", run_dir, trap={"full": True})
    assert done.code == 0, done.err
    assert "no space for a checkpoint" in done.err
    assert "no checkpoint at step 4" in notes(run_dir)
    assert sorted(p.name for p in (run_dir / "pretrain" / "checkpoints").iterdir()) == kept
    assert_equals(smoke, run_dir, weights, curve, ["pretrain"])


def test_one_nan_skips_its_step_and_is_counted(forge, smoke, run_dir, curve):
    done = forge("pretrain", "--out", run_dir, trap={"nan": [5]})
    assert done.code == 0, done.err
    assert "step 6: loss nan" in done.err
    mine, theirs = curve(run_dir, "pretrain"), curve(smoke.root, "pretrain")
    assert mine[:5] == theirs[:5]
    assert mine[5]["loss"] is None
    assert [e["step"] for e in mine] == [e["step"] for e in theirs]
    assert mine[6]["loss"] != theirs[6]["loss"]  # one step of learning less
    assert notes(run_dir).count("skipped") == 1


def test_three_nans_in_a_row_roll_back_and_pass_the_data(forge, run_dir, curve):
    done = forge("pretrain", "--out", run_dir, trap={"nan": [8, 9, 10]})
    assert done.code == 0, done.err
    assert notes(run_dir).count("skipped") == 3
    assert "rolled back to step" in notes(run_dir)
    steps = curve(run_dir, "pretrain")
    assert [e["step"] for e in steps] == list(range(1, 31))
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.5


def test_nothing_but_nans_stops_with_a_report(forge, run_dir):
    done = forge("pretrain", "--out", run_dir, trap={"nan": list(range(6, 60))})
    assert done.code == 2
    assert "no finite gradient" in done.err
    assert "muon_lr" in done.err
    assert "Traceback" not in done.err
    assert list((run_dir / "pretrain" / "checkpoints").iterdir())
    assert Run.open(run_dir).finished("pretrain") is None
