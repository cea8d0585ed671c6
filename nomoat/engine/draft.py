"""Speculative decoding (arXiv 2211.17192) with guesses that cost little; the tokens are those without it.

Each guess is one id.  The model computes all of them in one step, and an id is drawn behind each with the
number that its place is keyed by: a guess is accepted where it is what was drawn, which for a draft of one
id is the paper's rule.  So nothing but speed depends on the guesses.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nomoat.engine.batch import Batch
from nomoat.engine.runner import Runner
from nomoat.engine.scheduler import Part, Row

Drafts = Literal["off", "lookup", "mtp"]
NGRAM, LOOKED_UP = 3, 6  # ids that have to match, and how many behind them are guessed
FEW_ROWS = 4  # with more rows a step is bound by arithmetic, and a wrong guess costs as much as a token
LOOK = 48  # steps between two looks at the other way
REMEMBER = 0.9  # weight of what was measured before


def by_lookup(ids: Sequence[int], n: int = LOOKED_UP) -> list[int]:
    """What followed when the last NGRAM ids stood together before, most recently: prompt lookup decoding."""
    last = list(ids[-NGRAM:])
    for start in range(len(ids) - NGRAM - 1, -1, -1):
        if ids[start] == last[0] and list(ids[start : start + NGRAM]) == last:
            return list(ids[start + NGRAM : start + NGRAM + n])
    return []


@dataclass
class Pace:
    """Guessing goes on while it is faster: seconds a token with and without, measured as steps go by."""

    guessing: bool = True
    n_steps: int = 0
    seconds_with: float | None = None
    seconds_without: float | None = None
    guessed: int = 0
    accepted: int = 0
    began: float = 0.0

    def begin(self) -> None:
        self.began = time.perf_counter()

    def end(self, n_tokens: int) -> None:
        """A step of few rows has made so many tokens."""
        self.n_steps += 1
        seconds = (time.perf_counter() - self.began) / max(n_tokens, 1)
        name = "seconds_with" if self.guessing else "seconds_without"
        before = getattr(self, name)
        setattr(
            self,
            name,
            seconds if before is None else REMEMBER * before + (1 - REMEMBER) * seconds,
        )
        known = self.seconds_with is not None and self.seconds_without is not None
        better = not known or self.seconds_with < self.seconds_without
        looks = self.n_steps % LOOK >= LOOK - 4  # a few steps of the other way
        self.guessing = better != looks if known else self.n_steps % 8 < 4


def by_depth(runner: Runner, parts: Sequence[Part], batch: Batch) -> dict[Row, list[int]]:
    """What the first extra prediction depth (V3 report, section 2.2) expects behind each row that goes on.

    It reads the tokens of the step before, each with the id that came next.
    """
    ids: list[int] = []
    out: list[int] = []
    rows = []
    for part in parts:
        first = len(ids)
        pos = batch.pos_M[first : first + part.n]
        known = part.row.ids
        ids += [known[p + 1] if p + 1 < len(known) else known[-1] for p in pos.tolist()]
        last = len(known) - 2 - int(pos[0])  # the token before the newest
        if part.row.slot >= 0 and 0 <= last < part.n and part.row.n_new:
            rows.append(part.row)
            out.append(first + last)
    if not rows:
        return {}
    plain = np.ones(len(out), np.float32), np.full(len(out), -1, np.float32)
    integers = (
        np.array(ids, np.int32),
        batch.pos_M,
        batch.slot_M,
        batch.tables,
        np.array(out, np.int32),
    )
    drawn = runner.run(Batch(*integers, *plain, depth=1))
    return {row: [guess] for row, guess in zip(rows, drawn.ids)}
