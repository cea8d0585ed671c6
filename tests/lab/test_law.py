"""The fit finds a known law, and its interval holds it."""

import math

import numpy as np
import pytest

from nomoat.lab import law
from nomoat.stats import percentiles

TRUTH = law.Law(1.2, [2000.0], [0.3])
C = np.repeat(np.geomspace(1e11, 3e12, 6), 3)


def test_the_fit_finds_a_known_law():
    found = law.fit(C[:, None], TRUTH.at(C))
    assert found.floor == pytest.approx(1.2, rel=1e-2)
    assert found.b == pytest.approx([0.3], rel=1e-2)
    assert found.a == pytest.approx([2000.0], rel=5e-2)
    assert found.at(C) == pytest.approx(TRUTH.at(C), rel=1e-4)


def test_the_fit_finds_a_law_of_sizes_and_tokens():
    N, D = np.meshgrid(np.geomspace(1e5, 1e7, 4), np.geomspace(1e6, 1e8, 4))
    truth = law.Law(1.0, [30.0, 50.0], [0.34, 0.28])
    found = law.fit(np.stack([N.ravel(), D.ravel()], 1), truth.at(N.ravel(), D.ravel()))
    assert found.floor == pytest.approx(1.0, rel=3e-2)
    assert found.b == pytest.approx(truth.b, rel=3e-2)


def test_no_parameter_is_below_zero():
    assert law.fit(C[:, None], 100 * C**-0.2).floor == pytest.approx(0.0, abs=0.05)
    rising = law.fit(C[:, None], C**0.1)
    assert rising.a == [0.0]
    assert rising.multiple(1e12, 0.01) == math.inf


@pytest.mark.parametrize("seed", range(3))
def test_under_noise_the_truth_lies_in_the_interval(seed):
    noise = 1 + 0.003 * np.random.default_rng(seed).standard_normal(len(C))
    found = law.fit(C[:, None], TRUTH.at(C) * noise)
    draws = law.redrawn(found, C[:, None], TRUTH.at(C) * noise, 60)
    for of in (
        lambda w: w.floor,
        lambda w: w.b[0],
        lambda w: w.at(1.5e12) - w.at(3e12),
        lambda w: w.multiple(3e12, 0.01),
    ):
        low, high = percentiles([of(w) for w in draws])
        assert low < of(TRUTH) < high
        assert low < of(found) < high


def test_without_noise_the_interval_is_narrow():
    draws = law.redrawn(TRUTH, C[:, None], TRUTH.at(C), 5)
    low, high = percentiles([w.b[0] for w in draws])
    assert high - low < 0.01


def test_the_multiple_buys_the_gain_and_the_floor_cannot_be_bought():
    times = TRUTH.multiple(3e12, 0.05)
    assert times > 1
    assert TRUTH.at(3e12 * times) == pytest.approx(TRUTH.at(3e12) - 0.05)
    assert TRUTH.multiple(3e12, TRUTH.at(3e12) - 1.2) == math.inf
