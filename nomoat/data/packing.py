"""Packed batches: whole documents side by side in rows of T tokens, without attention across them.

Which documents share a row is settled once (rows.py); a document longer than T is cut into pieces.  Each
epoch of a source then passes over its rows in another order.  So where the loader stands is one number, the
count of rows taken: a batch is a pure function of it, and any number of ranks, after any number of restarts,
see the same stream.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from nomoat.config import ConfigError
from nomoat.data.rows import permutation, plan, ramp
from nomoat.data.shards import Shard
from nomoat.model.loss import IGNORED

CYCLE_ROWS = 4096  # the sources' shares are exact to one row in this many
NOWHERE = -1  # the document of padding


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of packed documents."""

    ids_BT: Tensor  # int64; padding is 0
    targets_BT: Tensor  # int64: the document's next token; -100 where there is none or it is not trained
    doc_BT: Tensor  # int32: the number of the document within its row, from 0; -1 on padding


@dataclass(frozen=True, slots=True)
class Cycle:
    """CYCLE_ROWS rows of several sources, evenly mixed."""

    source: np.ndarray  # of each row
    turn: np.ndarray  # which of its source's rows it is
    n_rows: np.ndarray  # of each source


class Packed:
    """Batches of rows of T tokens from several sources; the weights, their shares of the rows, need not sum
    to one.
    """

    def __init__(self, shards: Mapping[str, Shard], weights: Mapping[str, float], T: int, seed: int) -> None:
        if set(shards) != set(weights) or not shards:
            raise ConfigError(
                f"weights for {sorted(weights)}, sources {sorted(shards)}; expected one weight a source"
            )
        if T < 2 or any(not 0 < w < float("inf") for w in weights.values()):
            raise ConfigError(
                f"T = {T}, weights {dict(weights)}; expected at least 2 tokens a row and weights above 0"
            )
        self.T, self.seed, self.shards = T, seed, dict(shards)
        self.names = sorted(shards)
        self.rows = {}
        for name in self.names:
            self.rows[name] = plan(shards[name].offsets, T, _key(seed, name, "plan"))
        self.cycle = cycle([weights[name] for name in self.names])
        self.order = lru_cache(2 * len(shards))(self._order)  # a batch may straddle two epochs
        self.at = lru_cache(1)(
            lambda T: Packed(shards, weights, T, seed)
        )  # the same in rows of another length

    def batch(self, row: int, n_rows: int, rank: int = 0, world: int = 1) -> Batch:
        """Rows `row` to `row + n_rows` of the stream; of those, the `rank`-th of `world` equal parts."""
        if n_rows % world or not 0 <= rank < world or row < 0 or n_rows < 1:
            raise ConfigError(
                f"{n_rows} rows from {row} for rank {rank} of {world}; expected ranks to divide the rows"
            )
        B = n_rows // world
        shape = (B, self.T)
        ids_BT = np.zeros(shape, np.int64)
        targets_BT = np.full(shape, IGNORED, np.int64)
        doc_BT = np.full(shape, NOWHERE, np.int32)
        first = row + rank * B
        for place in range(B):
            name, number = self._find(first + place)
            self._fill(ids_BT[place], targets_BT[place], doc_BT[place], name, number)
        tensors = map(torch.from_numpy, (ids_BT, targets_BT, doc_BT))
        return Batch(*tensors)

    def _find(self, row: int) -> tuple[str, int]:
        """The source that a row of the stream is from, and the row's running number in it."""
        n_cycles, spot = divmod(row, CYCLE_ROWS)
        source = self.cycle.source[spot]
        return self.names[source], int(n_cycles * self.cycle.n_rows[source] + self.cycle.turn[spot])

    def _order(self, name: str, epoch: int) -> np.ndarray:
        """The order of a source's rows in an epoch."""
        return permutation(self.rows[name].n_rows, _key(self.seed, name, epoch))

    def _fill(
        self, ids_T: np.ndarray, targets_T: np.ndarray, doc_T: np.ndarray, name: str, number: int
    ) -> None:
        """Write the source's row with this running number into a row of the batch."""
        rows, shard = self.rows[name], self.shards[name]
        epoch, spot = divmod(number, rows.n_rows)
        pieces = rows.pieces(self.order(name, epoch)[spot])
        at = 0
        for nth, (start, length, end_of_document) in enumerate(pieces):
            end = start + length
            # What follows in the document is predicted, also beyond the end of the row.
            after = slice(start + 1, min(end + 1, end_of_document))
            ids_T[at : at + length] = shard.tokens[start:end]
            doc_T[at : at + length] = nth
            next_ids = shard.tokens[after]
            trained = shard.trained[after] != 0
            targets = targets_T[at : at + len(next_ids)]
            targets[trained] = next_ids[trained]
            at += length


def cycle(weights: list[float]) -> Cycle:
    """A cycle of the sources in these shares."""
    shares = np.array(weights) / sum(weights) * CYCLE_ROWS
    n_rows = np.floor(shares).astype(np.int64)
    by_remainder = np.argsort(n_rows - shares, kind="stable")
    n_rows[by_remainder[: CYCLE_ROWS - n_rows.sum()]] += 1
    if n_rows.min() == 0:
        raise ConfigError(
            f"weights {weights}: the smallest gives less than one row in {CYCLE_ROWS}; "
            "raise it or drop its source"
        )
    source = np.repeat(np.arange(len(weights)), n_rows)
    turn = ramp(n_rows)
    order = np.lexsort((source, (turn + 0.5) / n_rows[source]))
    return Cycle(source[order], turn[order], n_rows)


def _key(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big")
