"""Intervals and estimators for scores.  Standard library only."""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

K, V = TypeVar("K"), TypeVar("V")
Z95 = 1.959963984540054
DRAWS = 1000  # of an interval by resampling


@dataclass(frozen=True)
class Accuracy:
    """The share of `n` problems answered rightly with its 95 % interval, and that in a lenient reading."""

    value: float
    low: float
    high: float
    lenient: float
    n: int

    def __str__(self) -> str:
        return f"{100 * self.value:.0f} [{100 * self.low:.0f}-{100 * self.high:.0f}]"


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): sound at small n and near 0 and 1.  (0, 1) where n is 0."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    z2 = Z95**2
    shrink = 1 + z2 / n
    centre = (p + z2 / (2 * n)) / shrink
    variance = p * (1 - p) / n + z2 / (4 * n * n)
    half = Z95 / shrink * math.sqrt(variance)
    return max(0.0, centre - half), min(1.0, centre + half)


class Measured(Protocol):
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float


def difference(one: Measured, other: Measured) -> tuple[float, float]:
    """95 % interval of other - one (Newcombe 1998, method 10), as of shares that nothing pairs."""
    delta = other.value - one.value
    down = math.hypot(other.value - other.low, one.high - one.value)
    up = math.hypot(other.high - other.value, one.value - one.low)
    return delta - down, delta + up


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is there; None where nothing is."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """The values of each key, keys in the order in which they first come."""
    table = {}
    for key, value in pairs:
        table.setdefault(key, []).append(value)
    return table


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased chance that k of n samples hold a correct one (arXiv 2107.03374, eq. 1): 1 - C(n-c, k) / C(n,
    k).
    """
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ValueError(f"expected 0 <= correct <= n and 1 <= k <= n, found n={n}, correct={correct}, k={k}")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def bootstrap(values: Sequence[float], *, key: str = "bootstrap") -> tuple[float, float]:
    """95 % percentile interval of the mean by resampling; give one value per problem, never per sample."""
    if not values:
        return 0.0, 1.0
    n = len(values)
    if set(values) in ({0}, {1}):  # resampling would say that nothing is uncertain
        return wilson(round(sum(values)), n)
    rng = random.Random(key)
    return percentiles([sum(rng.choices(values, k=n)) / n for _ in range(DRAWS)])


def resampled(
    seeds: Sequence[Sequence[Sequence[float | None]]], *, draws: int = DRAWS
) -> list[tuple[float, ...]]:
    """Means of each column under resampling of the seeds and of the rows within each.

    A row is a cluster (one problem) and gives one value for each column, or None; the rest is paired by
    construction.
    """
    rng = random.Random("resampled")
    columns = [list(zip(*rows)) for rows in seeds]
    draws_of_means = []
    for _ in range(draws):
        means = []
        for seed in rng.choices(range(len(seeds)), k=len(seeds)):
            rows = range(len(seeds[seed]))
            drawn = rng.choices(rows, k=len(rows))
            means.append([_mean_of(column, drawn) for column in columns[seed]])
        draws_of_means.append(tuple(sum(column) / len(column) for column in zip(*means)))
    return draws_of_means


def _mean_of(column: Sequence[float | None], rows: Sequence[int]) -> float:
    """The mean over these rows of what is there; 0 where nothing is."""
    values = [column[row] for row in rows if column[row] is not None]
    return sum(values) / max(len(values), 1)


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of draws."""
    ordered = sorted(values)
    return ordered[int(0.025 * len(ordered))], ordered[min(int(0.975 * len(ordered)), len(ordered) - 1)]


def mcnemar(only_before: int, only_after: int) -> float:
    """Exact two-sided p that the discordant pairs fall to both sides alike (McNemar 1947)."""
    n, few = only_before + only_after, min(only_before, only_after)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(few + 1)) / 2**n)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number (Holm 1979), in their own order."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        adjusted[i] = highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
    return adjusted


def crossover(before: Mapping[int, float], after: Mapping[int, float]) -> int | None:
    """The smallest k at which pass@k of `before` is no lower, given that it was lower at some smaller k."""
    ahead = [k for k in sorted(before) if after[k] > before[k]]
    return next((k for k in sorted(before) if ahead and k > ahead[0] and before[k] >= after[k]), None)
