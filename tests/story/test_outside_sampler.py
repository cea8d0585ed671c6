"""The smoke recipe with its rollouts drawn by a server: on two ranks, through a kill, and with a deaf one."""

import contextlib
import json
import subprocess
import sys
import threading
import time

import pytest

from nomoat.lab import afflictions
from nomoat.run.directory import Run

SECONDS = 300.0


@contextlib.contextmanager
def serving(run, place):
    """A server of the run's models in a process of its own; gives its address."""
    command = [sys.executable, "-m", "nomoat", "serve", f"--model=smoke={run}", "--port", "0", "--json"]
    process = subprocess.Popen(
        [*command, "--updates", str(place), "--rows", "64"], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def begun(smoke, tmp_path_factory):
    """A run of the smoke recipe up to its reinforcement, and where weights are handed over."""
    root = tmp_path_factory.mktemp("outside")
    place = root / "weights"
    place.mkdir()
    with serving(smoke.root, place) as url:
        yield smoke.root, place, url


def words(recipe, begun, out, **fields):
    source, place, url = begun
    table = {"url": url, "model": "smoke:sft", "directory": str(place), "bound": 1e-3, **fields}
    inside = ", ".join(f"{name} = {json.dumps(value)}" for name, value in table.items())
    changes = [f"rl.sampler={{ {inside} }}", "rl.steps=8", "save_seconds=0"]
    sets = [word for change in changes for word in ("--set", change)]
    return ["-m", "nomoat", "rl", "--recipe", str(recipe), "--out", str(out), "--from", str(source), *sets]


def run(command, n_ranks=1):
    """How a command ended, and what it said."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    start = [*torchrun, str(n_ranks)] if n_ranks > 1 else []
    return subprocess.run([sys.executable, *start, *command], capture_output=True, text=True, timeout=SECONDS)


def course(out):
    return Run.open(out).curve("rl")


def test_two_ranks_draw_from_one_server(recipe, begun, tmp_path):
    done = run(words(recipe, begun, tmp_path / "run"), n_ranks=2)
    assert done.returncode == 0, done.stderr
    steps = course(tmp_path / "run")
    assert [step["step"] for step in steps] == [*range(1, 9)]
    for step in steps:
        assert step["sampler"]["gap"] < 1e-5
        assert step["sampler"]["clipped"] == 0
        assert step["sampler"]["effective"] > 0.999
        assert 0 <= step["idle_share"] < 1
    assert (tmp_path / "run" / "rl" / "model" / "model.safetensors").exists()


def test_a_killed_run_ends_in_the_bits_of_one_that_was_not(recipe, begun, tmp_path, weights):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert run(words(recipe, begun, calm)).returncode == 0
    command = [sys.executable, *words(recipe, begun, killed)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + SECONDS
        while not (killed / "events.jsonl").exists() or len(course(killed)) < 3:
            assert process.poll() is None
            assert time.monotonic() < end
            threading.Event().wait(0.02)
    finally:
        afflictions.kill(process.pid)
        process.wait()
    done = run(words(recipe, begun, killed))
    assert done.returncode == 0, done.stderr
    assert Run.open(killed).events("resume")
    assert [step["loss"] for step in course(killed)] == [step["loss"] for step in course(calm)]
    assert weights(killed, "rl") == weights(calm, "rl")


def test_a_deaf_server_stops_the_run_and_the_checkpoint_is_good(recipe, begun, tmp_path):
    out = tmp_path / "run"
    done = run(words(recipe, begun, out, update=[], bound=2e-5))
    assert done.returncode == 2
    assert "drew its tokens with other probabilities" in done.stderr
    assert "Traceback" not in done.stderr
    n_steps = len(course(out))
    assert n_steps < 8
    done = run(words(recipe, begun, out))
    assert done.returncode != 0
    assert "of another recipe" in done.stderr  # which a sampler that listens is
    done = run([*words(recipe, begun, out), "--continue"])
    assert done.returncode == 0, done.stderr
    assert [step["step"] for step in course(out)] == [*range(1, 9)]


pytestmark = [pytest.mark.check]
