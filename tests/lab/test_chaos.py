"""Faults meet whom they are for; a recipe whose ranks meet them ends in the bits of a calm one."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from nomoat.config import ConfigError
from nomoat.lab import afflictions, chaos
from nomoat.parallel.faults import ranks_of
from nomoat.run.directory import Run

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
    results = chaos.run(chaos.Chaos(short(recipe, tmp_path), tmp_path / "out", changes=steps, **how))
    assert results["equal"], chaos.verdict(results)
    assert results["faults"]
    assert results["nan_steps"]
    assert 0 < results["useful"]["faults"]["useful"] <= results["useful"]["faults"]["elapsed"]


def torchrun(recipe, out, *more):
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *more]
    words = ["-m", "nomoat", "run", str(recipe), "--out", str(out), "--set", "pretrain.steps=100000"]
    return subprocess.Popen([*start, *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def has_trained(out) -> bool:
    return (out / "events.jsonl").exists() and any(e["kind"] == "step" for e in Run.open(out).events())


def seconds_until_gone(pids) -> float:
    start = time.monotonic()
    until(lambda: not any(os.path.exists(f"/proc/{pid}") and state(pid) != "Z" for pid in pids))
    return time.monotonic() - start


@pytest.mark.check
@pytest.mark.parametrize(
    "fault", ["launcher killed", "launcher told to end", "a rank stopped", "told, and a rank stopped"]
)
def test_ranks_end_in_time_whatever_happens(recipe, tmp_path, fault):
    out = tmp_path / "run"
    launcher = torchrun(short(recipe, tmp_path), out)
    try:
        until(lambda: has_trained(out) or launcher.poll() is not None)
        ranks = ranks_of(launcher.pid)
        assert len(ranks) == 2
        if "stopped" in fault:
            afflictions.stop(ranks[1])
        if fault == "launcher killed":
            launcher.kill()
        elif fault == "launcher told to end":
            launcher.send_signal(signal.SIGTERM)
        elif fault.startswith("told"):
            afflictions.signalled(ranks[0], signal.SIGTERM)
        seconds = seconds_until_gone([ranks[0]])
        assert seconds < 30
        if fault.startswith("launcher"):
            assert seconds_until_gone(ranks.values()) < 5
            assert any((out / "pretrain" / "checkpoints").iterdir())
    finally:
        for pid in (*ranks_of(launcher.pid).values(), *ranks.values()):
            afflictions.kill(pid)
        launcher.kill()
        launcher.wait()


@pytest.mark.check
def test_what_two_ranks_began_goes_on_with_the_one_that_is_left(recipe, tmp_path, free_port):
    path, left, calm = short(recipe, tmp_path), tmp_path / "left", tmp_path / "calm"
    both = "-m torch.distributed.run --nnodes 1:2 --nproc-per-node 1 --max-restarts 3 --rdzv-backend c10d "
    both += f"--rdzv-endpoint 127.0.0.1:{free_port} --rdzv-id few --rdzv-conf last_call_timeout=3"
    words = ["nomoat", "run", str(path), "--set", "pretrain.steps=60", "--out"]
    launchers = []
    try:
        for _ in range(2):
            command = [sys.executable, *both.split(), "-m", *words, str(left)]
            launchers.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        until(lambda: any((left / "pretrain" / "checkpoints").glob("step_*")))
        ranks = {}
        for launcher in launchers:
            ranks |= dict.fromkeys(ranks_of(launcher.pid), launcher)
        lost = ranks[1]
        for pid in (*ranks_of(lost.pid).values(), lost.pid):
            afflictions.kill(pid)
        assert ranks[0].wait(300) == 0
    finally:
        for launcher in launchers:
            for pid in (*ranks_of(launcher.pid).values(), launcher.pid):
                afflictions.kill(pid)
            launcher.wait()
    assert [e["units"] for e in Run.open(left).events("machine")] == [1]
    subprocess.run([sys.executable, "-m", *words, str(calm)], check=True, capture_output=True)
    for mine, theirs in zip(Run.open(left).curve("pretrain"), Run.open(calm).curve("pretrain"), strict=True):
        assert mine["step"] == theirs["step"]
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=0.01)  # sums in another order
