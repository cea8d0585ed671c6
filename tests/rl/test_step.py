"""The parts of a step of reinforcement learning."""

from nomoat.rl.step import split


def test_minibatches_hold_every_group_once():
    parts = split(list(range(10)), 4, key=1)
    assert sorted(x for part in parts for x in part) == list(range(10))
    assert len(parts) == 4
    assert split([1], 4, key=1) == [[1], [], [], []]  # as many parts as the other ranks have
    assert split([], 0, key=1) == [[]]
