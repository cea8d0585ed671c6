"""A second team is held just as long as the threads stand in the queue."""

import itertools
import threading

import pytest
import torch

from nomoat.parallel import contention


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "queued", [itertools.count(0.0, 10.0), itertools.repeat(0.0)], ids=["crowded", "alone"]
)
def test_a_team_is_held_where_threads_wait_and_never_outlives_the_work(two_threads, monkeypatch, queued):
    held = threading.Event()
    crowded = isinstance(queued, itertools.count)

    def hold(release):
        held.set()
        release.wait()

    monkeypatch.setattr(contention, "queued_seconds", lambda: next(queued))
    monkeypatch.setattr(contention, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(contention, "_hold_team", hold)
    with contention.Polite():
        assert held.wait(10 if crowded else 0.05) is crowded
    for thread in threading.enumerate():
        if thread.name in ("team", "polite"):
            thread.join(10)
            assert not thread.is_alive()


def test_bits_do_not_depend_on_a_held_team(two_threads):
    x = torch.randn(1 << 18, generator=torch.Generator().manual_seed(0))
    release = threading.Event()
    before = x.sum(), x.view(512, 512) @ x.view(512, 512)
    team = threading.Thread(target=contention._hold_team, args=(release,))
    team.start()
    after = x.sum(), x.view(512, 512) @ x.view(512, 512)
    release.set()
    team.join()
    assert all(torch.equal(a, b) for a, b in zip(before, after))
