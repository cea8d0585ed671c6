"""Schedules: pure functions of the step."""

import math
from typing import Literal

from pydantic import model_validator

from nomoat.config import Share, Strict


class Schedule(Strict):
    """Warm-up, stable, decay (arXiv 2404.06395); `cosine` decays from the end of the warm-up on."""

    warmup: Share = 0.02
    decay: Share = 0.4
    final: Share = 0.0
    shape: Literal["wsd", "cosine", "constant"] = "wsd"

    @model_validator(mode="after")
    def _possible(self):
        if self.warmup + self.decay > 1:
            raise ValueError(f"expected warmup + decay <= 1, found {self.warmup} + {self.decay}")
        return self

    def factor(self, step: int, n_steps: int) -> float:
        """Multiplier of the learning rate in step 0 … n_steps - 1."""
        done = (step + 1) / n_steps
        if done < self.warmup:
            return done / self.warmup
        if self.shape == "constant":
            return 1.0
        if self.shape == "cosine":
            progress = (done - self.warmup) / (1 - self.warmup)
            return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))
        left = (1 - step / n_steps) / self.decay if self.decay else 1.0
        return max(self.final, min(1.0, left))


def ramp_rows(step: int, n_rows: int, first_rows: int, ramp_steps: int) -> int:
    """Rows of the batch in `step`: from `first_rows` in equal steps up to `n_rows` over `ramp_steps`."""
    if step >= ramp_steps or first_rows >= n_rows:
        return n_rows
    return first_rows + (n_rows - first_rows) * step // ramp_steps


def rows_before(step: int, n_rows: int, first_rows: int, ramp_steps: int) -> int:
    """Rows that the steps before `step` consumed: the loader's position, without a counter to save."""
    n = min(step, ramp_steps)
    more = max(n_rows - first_rows, 0)
    ramped = n * (n_rows - more)
    if more < n:
        for k in range(1, more + 1):  # each further row counts from the step on that has it
            first = -(-k * ramp_steps // more)
            ramped += max(n - first, 0)
    else:
        for s in range(n):
            ramped += more * s // ramp_steps
    return ramped + max(step - ramp_steps, 0) * n_rows
