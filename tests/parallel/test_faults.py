"""A silent rank is noticed, one whose launcher is gone leaves, and ranks that can't agree don't begin."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
import ranks
import torch.distributed as dist

from nomoat.config import UserError
from nomoat.parallel import faults, mesh
from nomoat.parallel.faults import Guard
from nomoat.run.stop import Stop


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(faults, "BEAT_SECONDS", 0.01)


def test_a_rank_ends_itself_once_the_next_is_silent_and_not_before():
    store, ended, said = dist.HashStore(), threading.Event(), []
    guard = Guard(0, 2, lambda: store, 60.0, end=lambda why: (said.append(why), ended.set()))
    with guard:
        with Guard(1, 2, lambda: store, 60.0, end=pytest.fail) as other:
            while not store.check(["beat1"]) or int(store.get("beat1")) < 20:
                other.thread.join(0.01)
            guard.silence_seconds = 5.0
            assert not said
        other.talk.join()
        guard.silence_seconds = 0.05
        ended.wait()
        guard.thread.join()
    assert len(said) == 1
    assert "rank 1 has been silent" in said[0]


def test_a_store_that_does_not_answer_is_silence_too():
    class Gone:
        def set(self, key, value):
            raise dist.DistNetworkError("gone")

    ended = threading.Event()
    with Guard(0, 2, Gone, 0.1, end=lambda why: ended.set()) as guard:
        ended.wait()
        guard.thread.join()


def test_a_store_that_never_answers_is_silence_of_all():
    left, ended, said = threading.Event(), threading.Event(), []

    class Stopped(dist.HashStore):
        def set(self, key, value):
            left.wait()

    with Guard(2, 4, Stopped, 0.05, end=lambda why: (said.append(why), ended.set())) as guard:
        ended.wait()
    left.set()
    guard.talk.join()
    assert "the store of all ranks has been silent" in said[0]


def test_a_run_whose_log_stands_still_ends_and_not_before():
    store, ended, said = dist.HashStore(), threading.Event(), []
    guard = Guard(0, 2, lambda: store, 60.0, 60.0, lambda why: (said.append(why), ended.set()))
    with guard:
        guard.hear({"kind": "step"})
        while not store.check(["beat0"]) or int(store.get("beat0")) < 5:
            guard.thread.join(0.01)
        assert not said
        guard.hang_seconds = 0.01
        ended.wait()
        guard.thread.join()
    assert "nothing came into the log" in said[0]


def test_a_silent_rank_beside_this_one_is_ended_at_once():
    ended, waits = threading.Event(), "import time; print(flush=True); time.sleep(100)"
    place = {**os.environ, "RANK": "1"}
    other = subprocess.Popen([sys.executable, "-c", waits], env=place, stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        launcher = mock.patch.object(faults.os, "getppid", os.getpid)
        with launcher, Guard(0, 2, dist.HashStore, 0.05, end=lambda why: ended.set()) as guard:
            ended.wait()
            guard.thread.join()
        assert other.wait() == -signal.SIGKILL
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_a_rank_whose_launcher_is_gone_is_asked_to_stop():
    guard, heard = Guard(0, 2, dist.HashStore, 60.0, end=pytest.fail), threading.Event()
    guard.parent = -1  # as if it had been another
    with Stop(lambda text: heard.set()) as stop, guard:
        heard.wait()
        assert stop.requested
    guard.thread.join()


def test_a_signal_that_is_not_followed_has_a_limit():
    late = threading.Event()
    with Stop(leave=late.set, seconds=0.01) as stop:
        os.kill(os.getpid(), 15)
        late.wait()
        assert stop.requested


def met(where, places, clocks):
    said = []
    if clocks:
        faults.time = types.SimpleNamespace(time=partial(float, time.time() + 100 * where.rank))
    try:
        faults.meet(where, Path(places[where.rank]), said.append)
    except UserError as error:
        return str(error)
    return said


def test_a_directory_that_is_not_shared_and_clocks_apart_are_said(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    errors = ranks.run(met, 2, (one, two), False)
    assert len(errors) == 2
    assert errors[0] == errors[1]
    says = rf"rank 1 on \S+ does not find in {two} what rank 0 on \S+ just wrote in {one};"
    assert re.search(says, errors[0])
    assert ranks.run(met, 2, (f"{one}/new", two), False)[0].endswith("shared file system")
    assert not (tmp_path / "one" / "new").exists()
    first, second = ranks.run(met, 2, (one, one), True)
    assert second == []
    assert "clocks are 100 s apart (rank 0 behind rank 1)" in first[0]
    assert not list((tmp_path / "one").iterdir())


def together(where):
    def work():
        if where.rank == 1:
            raise UserError("no such thing")
        return where.rank

    try:
        return where.together(work)
    except UserError as error:
        return str(error), error.told


def test_what_one_rank_cannot_do_ends_all_of_them_and_is_told_once():
    assert ranks.run(together, 2) == [("rank 1: no such thing", False), ("no such thing", True)]


def test_a_port_in_use_is_a_clear_error(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
        place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        for name, value in place.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=f"port {port} is in use"):
            mesh.start("cpu")
