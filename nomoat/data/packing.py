"""Packed batches: whole documents side by side in rows of T tokens, without attention across them.

Which documents share a row is settled once, by best fit in decreasing length over the histogram of lengths; a
document longer than T is cut into pieces.  Each epoch of a source then passes over its rows in another order.
So where the loader stands is one number, the count of rows taken: a batch is a pure function of it, and any
number of ranks, after any number of restarts, see the same stream.
"""

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from nomoat.config import ConfigError
from nomoat.data.shards import Shard
from nomoat.model.loss import IGNORED

CYCLE_ROWS = 4096  # the sources' shares are exact to one row in this many
NOWHERE = -1  # the document of padding
Composition = tuple[int, ...]  # the lengths of the pieces in a row


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of packed documents."""

    ids_BT: Tensor  # int64; padding is 0
    targets_BT: Tensor  # int64: the document's next token; -100 where there is none or it is not trained
    doc_BT: Tensor  # int32: the number of the document within its row, from 0; -1 on padding


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one source: piece i is `lengths[i]` tokens from `starts[i]`; row r has pieces
    first[r]:first[r+1].
    """

    starts: np.ndarray
    lengths: np.ndarray
    ends: np.ndarray  # where the piece's document ends
    first: np.ndarray

    @property
    def n_rows(self) -> int:
        return len(self.first) - 1

    def pieces(self, row: int) -> Iterator[tuple[int, int, int]]:
        """(start, length, end of its document) of each piece in a row."""
        span = slice(self.first[row], self.first[row + 1])
        return zip(*(column[span].tolist() for column in (self.starts, self.lengths, self.ends)))


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
        return _permutation(self.rows[name].n_rows, _key(self.seed, name, epoch))

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


def plan(offsets: np.ndarray, T: int, key: int) -> Rows:
    """Cut documents into pieces of at most T tokens and lay the pieces into rows."""
    offsets = np.asarray(offsets, dtype=np.int64)
    per_document = -(-np.diff(offsets) // T)
    starts = np.repeat(offsets[:-1], per_document) + _ramp(per_document) * T
    ends = np.repeat(offsets[1:], per_document)
    lengths = np.minimum(ends - starts, T)
    shuffled = _permutation(len(lengths), key)
    by_length = shuffled[
        np.argsort(-lengths[shuffled], kind="stable")
    ]  # longest first, shuffled within a length
    next_of = np.searchsorted(
        -lengths[by_length], -np.arange(T + 1), side="left"
    )  # first piece of each length
    row_of = np.empty(len(lengths), np.int64)
    n_rows = 0
    for composition, count in best_fit(np.bincount(lengths, minlength=T + 1), T):
        for length in composition:
            start = next_of[length]
            row_of[by_length[start : start + count]] = np.arange(n_rows, n_rows + count)
            next_of[length] += count
        n_rows += count
    order = np.argsort(row_of, kind="stable")
    pieces_of = np.bincount(row_of, minlength=n_rows)
    first = np.concatenate([[0], np.cumsum(pieces_of)])
    return Rows(starts[order], lengths[order], ends[order], first)


def best_fit(histogram: np.ndarray, T: int) -> list[tuple[Composition, int]]:
    """(lengths in a row, rows like that) so that each length is used as often as the histogram says.

    Best fit in decreasing order: each piece goes to the fullest row that still has room.  All rows with the
    same contents are one entry, so the work grows with the number of distinct lengths, not of documents.
    """
    open_rows: dict[int, list[tuple[Composition, int]]] = {}  # by the tokens that are free
    free_sizes = []
    full = []

    def put(free: int, composition: Composition, count: int) -> None:
        if free == 0:
            full.append((composition, count))
            return
        if not open_rows.get(free):
            open_rows[free] = []
            insort(free_sizes, free)
        open_rows[free].append((composition, count))

    for length in range(T, 0, -1):
        left = int(histogram[length])
        while left:
            place = bisect_left(free_sizes, length)
            if place == len(free_sizes):  # no row has room: open as many as these pieces fill with each other
                each = min(T // length, left)
                count = max(1, left // (T // length))
                put(T - each * length, (length,) * each, count)
                left -= count * each
                continue
            free = free_sizes[place]
            composition, count = open_rows[free].pop()
            if not open_rows[free]:
                free_sizes.pop(place)
            each = min(free // length, max(1, left // count))
            used = min(count, left // each)
            if used < count:
                put(free, composition, count - used)
            put(free - each * length, composition + (length,) * each, used)
            left -= used * each
    return full + [entry for entries in open_rows.values() for entry in entries]


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
    turn = _ramp(n_rows)
    order = np.lexsort((source, (turn + 0.5) / n_rows[source]))
    return Cycle(source[order], turn[order], n_rows)


def _ramp(counts: np.ndarray) -> np.ndarray:
    """0 .. count - 1 for each count, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)


def _key(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big")


def _permutation(n: int, key: int) -> np.ndarray:
    """A permutation of n numbers by their keyed hashes (splitmix64): the same with every version of numpy."""
    x = (np.arange(n, dtype=np.uint64) + 1) * 0x9E3779B97F4A7C15 + key
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return np.argsort(x ^ (x >> 31), kind="stable")
