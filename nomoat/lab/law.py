"""Laws of diminishing returns, and their fit to points.

Departure from Chinchilla (arXiv 2203.15556, section 3.3): least squares of relative errors in place of its
Huber loss of logarithms.
"""

import math
import random
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

LOWEST, HIGHEST = 0.01, 2.0  # exponents
GRID, REFINEMENTS = 16, 5  # points along each exponent; ever finer grids
RIDGE = 1e-12


@dataclass(frozen=True)
class Law:
    """y = E + sum of a_i x_i^-b_i."""

    floor: float
    a: list[float]
    b: list[float]

    def at(self, *x: Any) -> Any:
        return self.floor + sum(a * x_i**-b for x_i, a, b in zip(x, self.a, self.b))

    def multiple(self, x: float, gain: float) -> float:
        """By how much `x`, the only variable, must grow for y to fall by `gain`; infinite where that is below
        E."""
        left = self.at(x) - gain - self.floor
        return (left / self.a[0]) ** (-1 / self.b[0]) / x if left > 0 else math.inf


@dataclass(frozen=True)
class Candidate:
    """A fit: exponents, and the coefficients E and a of x over its unit."""

    error: float
    b: np.ndarray
    coefficients: np.ndarray


def fit(x: np.ndarray, y: np.ndarray) -> Law:
    """The law of points x (n, k), y (n,), E and a not negative: b by ever finer grids, the rest in closed
    form."""
    n_variables = x.shape[1]
    unit = np.exp(np.log(x).mean(0))
    low = np.full(n_variables, LOWEST)
    high = np.full(n_variables, HIGHEST)
    signs = [np.array(present) for present in product((0.0, 1.0), repeat=n_variables + 1)]
    best = Candidate(math.inf, low, low)
    for _ in range(REFINEMENTS):
        axes = np.geomspace(low, high, GRID).T
        exponents = np.array(list(product(*axes)))
        for present in signs:
            candidate = solved(x / unit, y, exponents, present)
            if candidate.error < best.error:
                best = candidate
        reach = (high / low) ** (2 / GRID)
        low = np.maximum(best.b / reach, LOWEST)
        high = np.minimum(best.b * reach, HIGHEST)
    floor, *a = best.coefficients
    return Law(float(floor), (np.array(a) * unit**best.b).tolist(), best.b.tolist())


def solved(x: np.ndarray, y: np.ndarray, exponents: np.ndarray, present: np.ndarray) -> Candidate:
    """The best of the exponents (candidates, k), where `present` says which of E and a are above zero."""
    ones = np.ones((len(exponents), len(y), 1))
    powers = x ** -exponents[:, None]
    terms = np.concatenate([ones, powers], 2)
    terms = terms / y[:, None] * present  # errors are relative
    squares = np.einsum("gni,gnj->gij", terms, terms)
    squares += RIDGE * np.eye(len(present))
    sums = terms.sum(1)
    coefficients = np.linalg.solve(squares, sums[..., None])[..., 0]
    fitted = np.einsum("gni,gi->gn", terms, coefficients)
    errors = ((fitted - 1) ** 2).sum(1)
    possible = (coefficients >= 0).all(1)
    errors = np.where(possible, errors, math.inf)
    i = int(errors.argmin())
    return Candidate(
        error=float(errors[i]),
        b=exponents[i],
        coefficients=coefficients[i],
    )


def redrawn(law: Law, x: np.ndarray, y: np.ndarray, draws: int) -> list[Law]:
    """Fits of the law's own points with the residuals drawn anew, widened for the parameters that the fit
    took."""
    fitted, rng = law.at(*x.T), random.Random("scaling")
    n_free = max(len(y) - 1 - 2 * x.shape[1], 1)
    residuals = ((y / fitted - 1) * math.sqrt(len(y) / n_free)).tolist()
    return [fit(x, fitted * (1 + np.array(rng.choices(residuals, k=len(y))))) for _ in range(draws)]
