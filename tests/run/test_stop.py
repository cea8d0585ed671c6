"""A wish to stop is heard, and handlers are put back."""

import hashlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from nomoat.run.stop import HEARD, Stop

TWICE = """
import hashlib, os, signal, threading
from nomoat.run.stop import Stop

heard = threading.Event()

def send():
    os.kill(os.getpid(), signal.SIGTERM)
    heard.wait()
    os.kill(os.getpid(), signal.SIGTERM)

with Stop(lambda text: heard.set()):
    threading.Thread(target=send, daemon=True).start()
    {busy}
"""
LONG = 'hashlib.pbkdf2_hmac("sha256", b"", b"", 2**30)'  # one step of Python, half an hour long
SHORT = "\n    ".join(["while True:", "    pass"])


def test_handlers_are_put_back_and_other_threads_take_none():
    before = signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        assert signal.getsignal(signal.SIGTERM) != before
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
    assert signal.getsignal(signal.SIGTERM) == before

    def elsewhere():
        with Stop() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGTERM) == before))

    seen = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [(False, True)]


def test_a_signal_is_heard_while_one_step_of_python_takes_long():
    busy, said = threading.Event(), []

    def send():
        busy.wait()
        os.kill(os.getpid(), signal.SIGINT)

    with Stop(lambda text: said.append((text, busy.is_set()))) as stop:
        thread = threading.Thread(target=send)
        thread.start()
        busy.set()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 500_000)
        busy.clear()
        assert stop.requested
    thread.join()
    assert said == [(HEARD, True)]


@pytest.mark.parametrize("busy", [SHORT, LONG])
def test_a_second_signal_ends_it_whatever_it_does(busy):
    done = subprocess.run([sys.executable, "-c", TWICE.format(busy=busy)], check=False)
    assert -done.returncode in (signal.SIGTERM, signal.SIGKILL)
