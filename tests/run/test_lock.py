"""One process trains into a directory, and signals ask it to stop: with real processes."""

import signal
import socket
import subprocess
import sys

import pytest

from nomoat.config import DataError, UserError
from nomoat.run.directory import Run
from nomoat.run.lock import identity


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", {"name": "x", "seed": 3})


CHILD = """
import sys
from pathlib import Path
from nomoat.run.directory import Run
from nomoat.run.stop import Stop
run = Run.open(Path(sys.argv[1]), write=True)
with run.locked(), Stop() as stop:
    print("ready", flush=True)
    for line in sys.stdin:
        run.log("step", stage="s", step=int(line))
        print("requested" if stop.requested else "running", flush=True)
print("saved", flush=True)
sys.exit(75)
"""


@pytest.fixture
def child(run, request):
    command = [sys.executable, "-c", getattr(request, "param", CHILD), str(run.root)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_trains_here(run, child):
    with pytest.raises(UserError) as caught, run.locked():
        pass
    assert str(child.pid) in str(caught.value)
    assert socket.gethostname() in str(caught.value)
    assert len(Run.open(run.root).events()) == 0  # looking is free
    child.kill()
    child.wait(timeout=60)
    assert str(child.pid) in (run.root / "lock").read_text()  # stale
    with run.locked():
        assert (run.root / "lock").read_text() == identity()
        with pytest.raises(UserError), Run.open(run.root, write=True).locked():
            pass
    with run.locked():
        pass


PARENT = """
import os, sys
from pathlib import Path
from nomoat.run.directory import Run
with Run.open(Path(sys.argv[1]), write=True).locked():
    if os.fork():
        sys.stdin.read()
    else:
        print("ready", flush=True)
        sys.stdin.read()
        os._exit(0)
"""


@pytest.mark.parametrize("child", [PARENT], indirect=True)
def test_a_forked_worker_does_not_keep_the_lock_of_a_killed_parent(run, child):
    child.kill()
    child.wait(timeout=60)
    with run.locked():
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_one_signal_asks_and_the_stage_saves(run, child, number):
    child.stdin.write("1\n")
    assert child.stdout.readline() == "running\n"
    child.send_signal(number)
    child.stdin.write("2\n")
    assert child.stdout.readline() == "requested\n"
    child.stdin.close()
    assert child.stdout.readline() == "saved\n"
    assert child.wait(timeout=60) == 75
    assert [e["step"] for e in run.curve("s")] == [1, 2]


def test_a_second_signal_ends_at_once_and_the_log_stays_whole(run, child):
    child.send_signal(signal.SIGINT)
    child.stdin.write("1\n")
    assert child.stdout.readline() == "requested\n"
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=60) == -signal.SIGTERM
    assert [e["step"] for e in run.curve("s")] == [1]


def test_a_place_that_cannot_be_written_is_a_clear_error(run):
    (run.root / "lock").unlink()
    (run.root / "lock").mkdir()
    with pytest.raises(DataError, match="cannot write"), run.locked():
        pass
