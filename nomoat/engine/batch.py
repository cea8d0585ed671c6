"""What one step computes, gathered from the rows, and what it gives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from nomoat.engine.scheduler import Part, Row


@dataclass(frozen=True, slots=True)
class Batch:
    """M tokens, those of a row beside each other: ids, positions, and which line of `tables` holds its
    blocks.

    Behind the tokens `out` (ascending) an id is drawn, greedy where the uniform number is negative.
    `depth` > 0: the ids are the next ones, and an extra prediction depth reads what the step before left.
    """

    ids_M: np.ndarray  # int32, as all but the last two
    pos_M: np.ndarray
    slot_M: np.ndarray
    tables: np.ndarray
    out: np.ndarray
    temperature: np.ndarray  # float32
    uniform: np.ndarray
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """Of each of `out`: the id, its log-probability, and the logits it was drawn from (valid until the next
    step)."""

    ids: list[int]
    logps: list[float]
    logits: Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """What is computed, and which of its draws belong to each part: those of its row, then its twins'.

    `scored`: those of `out` before them whose logits score the row's prompt.
    """

    batch: Batch
    outs: list[range]
    scored: list[range]


def gathered(parts: Sequence[Part], tables: np.ndarray) -> Step:
    """The tokens of all parts, and where each of them draws."""
    lists = Lists()
    outs, scored = [], []
    for part in parts:
        begin = len(lists.out)
        if part.row.n_unscored:
            lists.score(part)
        drawn = len(lists.out)
        lists.add(part)
        scored.append(range(begin, drawn))
        outs.append(range(drawn, len(lists.out)))
    return Step(lists.batch(tables), outs, scored)


class Lists:
    """A batch as it is gathered."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.pos: list[int] = []
        self.slots: list[int] = []
        self.out: list[int] = []
        self.temperature: list[float] = []
        self.uniform: list[float] = []

    def score(self, part: Part) -> None:
        """The logits behind the prompt's tokens of a part, but the last one and those that are scored."""
        row, n, _ = part
        first, begin = row.n_computed, len(self.ids)
        for pos in range(max(first, len(row.scores)), min(first + n, row.n_prompt - 1)):
            self.out.append(begin + pos - first)
            self.temperature.append(1.0)
            self.uniform.append(-1.0)

    def add(self, part: Part) -> None:
        row, n, twins = part
        first = row.n_computed
        if (
            n == 1 and not twins and not row.drafts and first + 1 == len(row.ids)
        ):  # most rows of most steps
            self.out.append(len(self.ids))
            self.ids.append(row.ids[first])
            self.pos.append(first)
            self.slots.append(row.slot)
            self.draw(row, 0)
            return
        known = row.ids + row.drafts if row.drafts else row.ids
        self.ids += known[first : first + n]
        self.pos += range(first, first + n)
        self.slots += [row.slot] * n
        n_drawn = max(first + n - len(row.ids) + 1, 0)
        end = len(self.ids)
        self.out += range(end - n_drawn, end)
        self.out += [end - 1] * len(twins)
        for k in range(n_drawn):
            self.draw(row, k)
        for twin in twins:
            self.draw(twin, 0)

    def draw(self, row: Row, k: int) -> None:
        """How the k-th next token of a row is drawn."""
        self.temperature.append(row.request.sampling.temperature or 1.0)
        self.uniform.append(row.uniform(k))

    def batch(self, tables: np.ndarray) -> Batch:
        lists = (self.ids, self.pos, self.slots)
        integers = [np.array(numbers, dtype=np.int32) for numbers in lists]
        out = np.array(self.out, dtype=np.int32)
        temperature = np.array(self.temperature, dtype=np.float32)
        uniform = np.array(self.uniform, dtype=np.float32)
        return Batch(*integers, tables, out, temperature, uniform)
