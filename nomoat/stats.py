"""Intervals and estimators for scores.  Standard library only."""

import math
import random
from collections.abc import Mapping, Sequence

Z95 = 1.959963984540054


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): sound at small n and near 0 and 1.  (0, 1) where n is 0."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased chance that k of n samples hold a correct one: 1 - C(n-c, k) / C(n, k) (arXiv 2107.03374, eq. 1)."""
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ValueError(f"expected 0 <= correct <= n and 1 <= k <= n, found n={n}, correct={correct}, k={k}")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def bootstrap(values: Sequence[float], *, draws: int = 1000, key: str = "bootstrap") -> tuple[float, float]:
    """95 % percentile interval of the mean by resampling; give one value per problem, never per sample."""
    if not values:
        return 0.0, 1.0
    if all(v == values[0] for v in values) and values[0] in (0, 1):  # resampling would say that nothing is uncertain
        return wilson(round(sum(values)), len(values))
    rng = random.Random(key)
    return percentiles([sum(rng.choices(values, k=len(values))) / len(values) for _ in range(draws)])


def resampled(
    seeds: Sequence[Sequence[Sequence[float | None]]], *, draws: int = 1000, key: str = "resampled"
) -> list[tuple[float, ...]]:
    """Means of each column under resampling of the seeds, where there are several, and of the rows within each.

    A row is a cluster (one problem) and gives one value for each column, or None; the rest is paired by construction.
    """
    rng, found = random.Random(key), []
    columns = [[([x or 0.0 for x in c], [x is not None for x in c]) for c in zip(*rows)] for rows in seeds]
    for _ in range(draws):
        means = []
        for s in rng.choices(range(len(seeds)), k=len(seeds)):
            at = rng.choices(range(len(seeds[s])), k=len(seeds[s]))
            means.append([sum(map(v.__getitem__, at)) / max(sum(map(n.__getitem__, at)), 1) for v, n in columns[s]])
        found.append(tuple(sum(c) / len(c) for c in zip(*means)))
    return found


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
