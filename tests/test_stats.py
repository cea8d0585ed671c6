"""Intervals and estimators against their definitions."""

import itertools
import math

import pytest

from nomoat import stats


def test_wilson_matches_the_published_example_and_stays_inside():
    low, high = stats.wilson(81, 263)  # Newcombe 1998, table I: 0.2553 to 0.3662
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    for n in (1, 5, 50):
        for k in range(n + 1):
            low, high = stats.wilson(k, n)
            assert 0 <= low <= k / n <= high <= 1
    assert stats.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("n", "correct", "k"), [(5, 2, 3), (6, 0, 2), (6, 6, 2), (7, 3, 7)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n, correct, k):
    marks = [1] * correct + [0] * (n - correct)
    subsets = list(itertools.combinations(marks, k))
    assert stats.pass_at_k(n, correct, k) == pytest.approx(sum(any(s) for s in subsets) / len(subsets))


def test_bootstrap_covers_the_mean_and_narrows_with_more_data():
    few, many = [0.0, 1.0] * 10, [0.0, 1.0] * 500
    wide, narrow = stats.bootstrap(few), stats.bootstrap(many)
    assert wide[0] < 0.5 < wide[1]
    assert math.isclose(narrow[1] - narrow[0], 2 * stats.Z95 * 0.5 / math.sqrt(1000), rel_tol=0.15)
    assert wide[1] - wide[0] > narrow[1] - narrow[0]


def test_mcnemar_is_the_binomial_tail_on_both_sides():
    for b, c in itertools.product(range(7), repeat=2):
        tails = [sum(flips) for flips in itertools.product((0, 1), repeat=b + c)]
        extreme = sum(abs(t - (b + c) / 2) >= abs(b - c) / 2 for t in tails) / len(tails)
        assert stats.mcnemar(b, c) == pytest.approx(extreme)


def test_holm_matches_its_textbook_example():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []


def test_curves_cross_where_the_one_before_catches_up():
    assert stats.crossover({1: 0.1, 2: 0.3, 4: 0.5}, {1: 0.3, 2: 0.4, 4: 0.5}) == 4
    assert stats.crossover({1: 0.1, 2: 0.2}, {1: 0.3, 2: 0.4}) is None
    assert stats.crossover({1: 0.5, 2: 0.6}, {1: 0.3, 2: 0.4}) is None  # never behind, so never catching up


def test_pairs_are_drawn_together():
    rows = [(x, x + 0.25) for x in [0.0, 1.0] * 50]
    assert all(b - a == pytest.approx(0.25) for a, b in stats.resampled([rows], draws=50))


def test_the_interval_of_a_difference():
    """Newcombe 1998, table II, method 10, example (a): 56/70 - 48/80 = 0.2 (0.0524, 0.3339)."""
    ours, theirs = (stats.Accuracy(k / n, *stats.wilson(k, n), 0.0, n) for k, n in ((48, 80), (56, 70)))
    assert stats.difference(ours, theirs) == pytest.approx((0.0524, 0.3339), abs=5e-5)
