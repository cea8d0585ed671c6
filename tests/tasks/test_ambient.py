"""A person's code changes nothing that the whole process shares, and what tries is told."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import torch

from nomoat.config import TaskError
from nomoat.tasks import guest

CHANGES = {
    "chdir": lambda: os.chdir("/"),
    "environ": lambda: os.environ.update(CUDA_VISIBLE_DEVICES="7"),
    "signal": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "kind": lambda: torch.set_default_dtype(torch.float64),
    "gradients": lambda: torch.set_grad_enabled(False),
}
FREE = {
    "print": lambda: print("so"),
    "write": lambda: os.write(1, b"so\n"),
    "a child": lambda: subprocess.run([sys.executable, "-S", "-c", "print('so')"], check=True),
    "an alarm": lambda: signal.alarm(1),
    "seeds": lambda: torch.manual_seed(7),
}


def shared():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    settings = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    return os.getcwd(), dict(os.environ), handlers, settings, os._exit, sys.stdout


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_is_undone_and_told(kind):
    before = shared()
    fault = guest.attempt(CHANGES[kind])
    assert isinstance(fault, guest.Fault)
    assert "it ca" in fault.words or "it changes" in fault.words
    assert shared() == before


@pytest.mark.parametrize("kind", FREE)
def test_what_changes_nothing_is_free_and_nothing_reaches_stdout(kind, capfd):
    before = shared()
    assert not isinstance(guest.attempt(FREE[kind]), guest.Fault)
    assert shared() == before
    assert signal.alarm(0) == 0
    assert capfd.readouterr().out == ""


def test_an_end_is_not_taken():
    for end in (lambda: os._exit(0), lambda: sys.exit(0)):
        assert isinstance(guest.attempt(end), guest.Fault)


def test_two_at_once_leave_what_was():
    before, meet = shared(), threading.Barrier(2, timeout=30)

    def first():
        meet.wait()  # both are in
        meet.wait()  # the other is out

    thread = threading.Thread(target=guest.attempt, args=(first,))
    thread.start()
    assert guest.attempt(meet.wait) in (0, 1)
    assert sys.stdout is not before[-1]
    meet.wait()
    thread.join()
    assert shared() == before


def test_what_does_not_come_back_is_told_in_any_thread(monkeypatch):
    monkeypatch.setattr(guest, "LONGEST_SECONDS", 0.05)
    heard, gone = [], threading.Event()

    def stays():
        gone.wait(30)

    def other():
        with pytest.raises(TaskError, match="stays has not come back"):
            guest.attempt(stays)
        heard.append(True)

    with pytest.raises(TaskError, match="stays has not come back; expected it within 0.05 seconds"):
        guest.attempt(stays)
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    gone.set()
    assert heard
