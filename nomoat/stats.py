"""Intervals and estimators for scores.  Standard library only."""

import math
import random
from collections.abc import Sequence

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
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(draws))
    return means[int(0.025 * draws)], means[min(int(0.975 * draws), draws - 1)]
