"""Faults meet whom they are for; a recipe whose ranks meet them ends in the bits of a calm one."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from brought import saved

from nomoat.config import ConfigError, UserError
from nomoat.lab import afflictions, chaos
from nomoat.parallel.faults import ranks_of
from nomoat.run.directory import Run
from nomoat.run.stop import Stop
from nomoat.stages import fit
from nomoat.stages.pipeline import run_stages
from nomoat.stages.recipe import resolve

TESTS = Path(__file__).parents[1]
LAUNCHER = """
import os, subprocess, sys
places = [{**os.environ, "RANK": str(n)} for n in (0, 1)]
ranks = [subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=place) for place in places]
other = subprocess.Popen(["sleep", "60"])
print("started", flush=True)
for rank in ranks:
    rank.wait()
other.kill()
other.wait()
"""
RANK = """
import os, sys, time
parent = os.getppid()
while os.getppid() == parent:
    try:
        with open(os.environ["FILE"] + os.environ["RANK"], "w") as file:
            file.write(str(time.monotonic()))
    except OSError:
        with open(os.environ["FILE"] + "full", "w"):
            pass
    time.sleep(0.01)
"""


@contextlib.contextmanager
def launched(place):
    env = {**os.environ, "FILE": str(place / "at")}
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, RANK], env=env, stdout=subprocess.PIPE)
    try:
        launcher.stdout.readline()
        yield launcher
    finally:
        for pid in ranks_of(launcher.pid).values():
            afflictions.kill(pid)
        launcher.wait()
        launcher.stdout.close()


def test_a_poisoned_training_skips_those_steps_and_goes_on(tmp_path, monkeypatch):
    saved(tmp_path / "base")
    monkeypatch.setattr(fit, "train", fit.train)  # poisoned until the test ends
    afflictions.poison({1})
    learns = {"kind": "sft", "steps": 3, "rows": 2, "context": 128, "task_documents": 20, "precision": "fp32"}
    learns |= {"tasks": {"addition": [2]}, "shares": {"tasks": 1.0}}
    models = {"main": {"from": str(tmp_path / "base")}}
    table = {"name": "t", "threads": 1, "models": models, "stages": [learns]}
    run = Run.create(tmp_path / "run", resolve(table).table)
    with Stop() as stop, run.locked():
        run_stages(run, resolve(table), stop)
    assert [step["step"] for step in run.curve("sft")] == [1, 2, 3]
    (skipped,) = [note["text"] for note in run.events("note", "sft") if "skipped" in note["text"]]
    assert "step 2: loss nan" in skipped


def state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def until(holds):
    while not holds():
        time.sleep(0.005)


def test_faults_meet_the_rank_that_they_are_for(tmp_path, monkeypatch):
    monkeypatch.setattr(afflictions, "FULL_SECONDS", 0.3)
    monkeypatch.setattr(afflictions, "SLOW_SECONDS", 0.1)
    with launched(tmp_path) as launcher:
        until(lambda: len(ranks_of(launcher.pid)) == 2)
        ranks = ranks_of(launcher.pid)
        until(lambda: (tmp_path / "at0").exists() and (tmp_path / "at1").exists())
        afflictions.disk(ranks[1])
        assert (tmp_path / "atfull").exists()
        before = (tmp_path / "at1").read_text()
        until(lambda: (tmp_path / "at1").read_text() not in (before, ""))  # it has room again
        afflictions.slow(ranks[0])
        assert state(ranks[0]) != "T"
        afflictions.stop(ranks[0])
        until(lambda: state(ranks[0]) == "T")
        afflictions.kill(ranks[0])
        until(lambda: 0 not in ranks_of(launcher.pid))
        assert list(ranks_of(launcher.pid)) == [1]
    assert ranks_of(launcher.pid) == {}
    afflictions.kill(ranks[0])  # of what is gone, nothing
    afflictions.disk(ranks[0])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"kinds": ("fire",)}, "no fault `fire`"), ({"n_ranks": 1}, "two ranks"), ({"every": 0.0}, "zero")],
)
def test_what_can_not_be_is_said_at_once(tmp_path, wrong, says):
    with pytest.raises(ConfigError, match=says):
        chaos.Chaos(tmp_path / "none.toml", tmp_path, **wrong)
    assert not list(tmp_path.iterdir())


def test_what_was_met_is_kept_to_the_last_whole_line(tmp_path):
    file = tmp_path / "out" / "chaos.jsonl"
    chaos.Diary(file).note("fault", kind="kill")
    with file.open("a") as torn:
        torn.write('{"what": "fau')
    again = chaos.Diary(file)
    assert again.of("fault") == [{"what": "fault", "kind": "kill"}]
    again.note("run", differ=[])
    assert chaos.Diary(file).records == again.records
    assert len(again.records) == 2


def test_the_nth_fault_is_the_same_whenever_it_comes(tmp_path):
    plan = chaos.Chaos(tmp_path / "none.toml", tmp_path, every=8.0)
    drawn = [plan.fault(n, ("kill", "stop")) for n in range(400)]
    assert drawn == [plan.fault(n, ("kill", "stop")) for n in range(400)]
    assert {(kind, rank) for kind, rank, _ in drawn} == {(k, r) for k in ("kill", "stop") for r in range(4)}
    assert sum(seconds for _, _, seconds in drawn) / 400 == pytest.approx(8.0, rel=0.15)


SIZES = [((5, 9, 9, 20, 20), True), ((5, 5, 5, 5), False), ((0, 0, 0, 0), False)]


@pytest.mark.parametrize(("sizes", "ends"), SIZES)
def test_a_launcher_that_gives_up_is_started_again_while_that_moves_on(tmp_path, monkeypatch, sizes, ends):
    left = list(sizes)
    monkeypatch.setattr(chaos, "_log_bytes", lambda out: left.pop(0))
    monkeypatch.setattr(chaos, "_launch", lambda *what: 0 if not left else 1)
    diary = chaos.Diary(tmp_path / "chaos.jsonl")
    plan = chaos.Chaos(tmp_path / "none.toml", tmp_path)
    if ends:
        chaos._run(plan, tmp_path / "calm", (), (), diary)
    else:
        with pytest.raises(UserError, match="did not come to its end"):
            chaos._run(plan, tmp_path / "calm", (), (), diary)
    assert len(diary.of("again")) == len(sizes)


def test_a_recipe_that_cannot_run_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(chaos, "_launch", lambda *what: chaos.WRONG)
    diary = chaos.Diary(tmp_path / "chaos.jsonl")
    with pytest.raises(UserError, match="exit code 2"):
        chaos._run(chaos.Chaos(tmp_path / "none.toml", tmp_path), tmp_path / "calm", (), (), diary)
    assert len(diary.of("again")) == 1


def short(smoke, place):
    """The tokenizer and the first training of the smoke recipe, with rows for two and for four ranks."""
    text, _, _ = smoke.read_text().partition('[[stages]]\nkind = "extend"')
    text = text.replace("first_rows = 4\nramp_steps = 8\n", "")
    text = text.replace("save_seconds = 2.0", "save_seconds = 0.5")
    path = place / "short.toml"
    path.write_text(text.replace('device = "cpu"', 'device = "cpu"\nmesh = { silence_seconds = 10 }', 1))
    return path


@pytest.mark.check
@pytest.mark.parametrize("n_ranks", [2, 4])
def test_a_disturbed_run_ends_in_the_bits_of_a_calm_one(recipe, tmp_path, n_ranks):
    kinds = ("kill", "slow", "disk", "nan")
    how = {"n_ranks": n_ranks, "n_faults": 6, "every": 8.0, "kinds": kinds}
    steps = ("pretrain.steps=150",)
    path = short(recipe, tmp_path)
    results = chaos.run(chaos.Chaos(path, tmp_path / "out", changes=steps, **how))
    assert results["equal"], chaos.verdict(results)
    assert results["faults"]
    assert results["nan_steps"]
    assert all(0 < run["useful"] <= run["elapsed"] for run in results["runs"])
    assert chaos.run(chaos.Chaos(path, tmp_path / "out", changes=steps, **how)) == results  # all is met
    with pytest.raises(ConfigError, match="seed is 0, now 1"):
        chaos.run(chaos.Chaos(path, tmp_path / "out", changes=steps, seed=1, **how))


def ranks(recipe, out, *changes, torchrun=(), before="None", n_ranks=2):
    """A launcher of ranks, each of which calls `before` first."""
    start = "import functools, sys, hanging; from nomoat.cli import ranks; "
    start += f"sys.exit(ranks.start(sys.argv[1:], {before}))"
    options = [*torchrun] or ["--standalone", "--nproc-per-node", str(n_ranks), "--max-restarts", "3"]
    words = ["run", str(recipe), "--out", str(out), *(["--set", *changes] if changes else [])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    with open(out.with_suffix(".log"), "ab") as log:
        command = [sys.executable, "-c", start, *options, *words]
        return subprocess.Popen(command, env=env, stdout=log, stderr=log)


def torchrun(recipe, out, *changes):
    """The same by torchrun itself."""
    words = "-m torch.distributed.run --standalone --nproc-per-node 2 -m nomoat run {} --out {} --set {}"
    start = words.format(recipe, out, " ".join(changes)).split()
    quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, *start], **quiet)


def n_steps(out, stage="pretrain") -> int:
    there = (out / "recipe.json").exists()
    return sum(e.get("stage") == stage for e in Run.open(out).events("step")) if there else 0


def trains(launcher, out, stage="pretrain"):
    until(lambda: n_steps(out, stage) > 1 or launcher.poll() is not None)


def seconds_until_gone(pids) -> float:
    start = time.monotonic()
    until(lambda: not any(os.path.exists(f"/proc/{pid}") and state(pid) != "Z" for pid in pids))
    return time.monotonic() - start


@contextlib.contextmanager
def ended(*launchers):
    """Whatever comes, nobody is left."""
    try:
        yield
    finally:
        for launcher in launchers:
            for pid in (*ranks_of(launcher.pid).values(), launcher.pid):
                afflictions.kill(pid)
            launcher.wait()


@pytest.mark.check
@pytest.mark.parametrize("by", [ranks, torchrun])
@pytest.mark.parametrize(
    "fault", ["launcher killed", "launcher told to end", "a rank stopped", "told, and a rank stopped"]
)
def test_ranks_end_in_time_whatever_happens(recipe, tmp_path, fault, by):
    out = tmp_path / "run"
    launcher = by(short(recipe, tmp_path), out, "pretrain.steps=100000")
    with ended(launcher):
        trains(launcher, out)
        first = ranks_of(launcher.pid)
        assert len(first) == 2
        if "stopped" in fault:
            afflictions.stop(first[1])
        if fault == "launcher killed":
            launcher.kill()
        elif fault == "launcher told to end":
            launcher.send_signal(signal.SIGTERM)
        elif fault.startswith("told"):
            afflictions.signalled(first[0], signal.SIGTERM)
        assert seconds_until_gone([first[0]]) < 30
        if fault.startswith("launcher"):
            assert seconds_until_gone(first.values()) < 5
            assert any((out / "pretrain" / "checkpoints").iterdir())


STAGES = ("pretrain", "extend", "sft", "rl", "distill")
LONGER = ("rl.steps=12", "distill.steps=16", "save_seconds=1")


@pytest.fixture(scope="module")
def undisturbed(recipe, tmp_path_factory):
    """The weights that two ranks leave of each stage of the smoke recipe."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    assert ranks(recipe, out, *LONGER).wait() == 0
    return chaos._weights(out)


@pytest.mark.check
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_every_stage_saves_when_its_launcher_is_told_or_gone_and_goes_on(
    recipe, tmp_path, undisturbed, number
):
    out = tmp_path / "run"
    for stage in STAGES:
        launcher = ranks(recipe, out, *LONGER)
        with ended(launcher):
            trains(launcher, out, stage)
            members = ranks_of(launcher.pid)
            launcher.send_signal(number)
            assert seconds_until_gone(members.values()) < 30
            assert launcher.wait() == (75 if number == signal.SIGTERM else -number)
    assert ranks(recipe, out, *LONGER).wait() == 0
    assert chaos._weights(out) == undisturbed
    assert {e["stage"] for e in Run.open(out).events("resume")} == {*STAGES}
    assert not any(e.get("redone") for e in Run.open(out).events("step"))


@pytest.mark.check
def test_a_rank_that_beats_but_hangs_is_found_by_the_log_that_stands_still(recipe, tmp_path):
    path, out, calm = short(recipe, tmp_path), tmp_path / "run", tmp_path / "calm"
    few = ("mesh.hang_seconds=4", "pretrain.steps=12", "save_seconds=0.2")
    launcher = ranks(path, out, *few, before="functools.partial(hanging.hang, 1, 5)")
    with ended(launcher):
        assert launcher.wait(300) == 0
    assert [e["step"] for e in Run.open(out).events("resume")]
    assert ranks(path, calm, *few).wait(300) == 0
    assert chaos._weights(out) == chaos._weights(calm)


@pytest.mark.check
def test_a_node_that_is_lost_is_done_without_and_taken_back(recipe, tmp_path, free_port):
    path, out, calm = short(recipe, tmp_path), tmp_path / "run", tmp_path / "calm"
    steps = ("pretrain.steps=120", "save_seconds=0.2")
    both = "--nnodes 1:2 --nproc-per-node 1 --max-restarts 5 --rdzv-backend c10d --rdzv-id few"
    both += f" --rdzv-endpoint 127.0.0.1:{free_port} --rdzv-conf "
    conf = "last_call_timeout=2,keep_alive_interval=1,is_host="
    first, second = (ranks(path, out, *steps, torchrun=f"{both}{conf}{n}".split()) for n in (1, 0))
    with ended(first, second):
        until(lambda: n_steps(out) > 3)
        for pid in (*ranks_of(second.pid).values(), second.pid):
            afflictions.kill(pid)
        until(lambda: units(out)[-1:] == [1] and n_steps(out) > 10)
        third = ranks(path, out, *steps, torchrun=f"{both}{conf}0".split())
        with ended(third):
            assert third.wait(300) == 0
            assert first.wait(300) == 0
    assert units(out) == [1, 2]
    assert ranks(path, calm, *steps, n_ranks=1).wait(300) == 0
    for mine, theirs in zip(Run.open(out).curve("pretrain"), Run.open(calm).curve("pretrain"), strict=True):
        assert mine["step"] == theirs["step"]
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=0.01)  # sums in another order


def units(out):
    """On how many ranks the run went on each time that it was with others."""
    return [e["units"] for e in Run.open(out).events("machine")]
