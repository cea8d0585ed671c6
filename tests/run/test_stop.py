"""A wish to stop is heard, and handlers are put back."""

import signal
import threading

from nomoat.run.stop import Stop


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
