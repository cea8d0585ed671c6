"""Packed batches: whole documents side by side in rows of T tokens, without attention across them.

Which documents share a row is settled once, by best fit in decreasing length over the histogram of lengths; a
document longer than T is cut into pieces.  Each epoch of a source then passes over its rows in another order.  So
where the loader stands is one number, the count of rows taken: a batch is a pure function of it, and any number of
ranks, after any number of restarts, see the same stream.
"""

import hashlib
from bisect import bisect_left, insort
from collections.abc import Mapping
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


@dataclass(frozen=True)
class Batch:
    """Rows of packed documents."""

    ids_BT: Tensor  # int64; padding is 0
    targets_BT: Tensor  # int64: the document's next token; -100 where there is none, on padding, and where it is not trained
    doc_BT: Tensor  # int32: the number of the document within its row, from 0; -1 on padding


@dataclass(frozen=True)
class Rows:
    """The rows of one source: piece i is `lengths[i]` tokens from `starts[i]`; row r has pieces first[r]:first[r+1]."""

    starts: np.ndarray
    lengths: np.ndarray
    ends: np.ndarray  # where the piece's document ends
    first: np.ndarray

    @property
    def n_rows(self) -> int:
        return len(self.first) - 1


class Packed:
    """Batches of rows of T tokens from several sources; the weights, their shares of the rows, need not sum to one."""

    def __init__(self, shards: Mapping[str, Shard], weights: Mapping[str, float], T: int, seed: int) -> None:
        if set(shards) != set(weights) or not shards:
            raise ConfigError(f"weights for {sorted(weights)}, sources {sorted(shards)}; expected one weight a source")
        if T < 2 or any(not 0 < w < float("inf") for w in weights.values()):
            raise ConfigError(f"T = {T}, weights {dict(weights)}; expected at least 2 tokens a row and weights above 0")
        self.T, self.at = T, lru_cache(1)(lambda T: Packed(shards, weights, T, seed))  # the same in rows of another length
        self.names = sorted(shards)
        self.shards = dict(shards)
        self.rows = {name: plan(shards[name].offsets, T, _key(seed, name, "plan")) for name in self.names}
        self.source_of, self.turn_of, self.per_cycle = cycle([weights[name] for name in self.names])
        # The order of a source's rows in an epoch; a batch may straddle two.
        self.order = lru_cache(2 * len(shards))(
            lambda name, epoch: _permutation(self.rows[name].n_rows, _key(seed, name, epoch))
        )

    def batch(self, row: int, n_rows: int, rank: int = 0, world: int = 1) -> Batch:
        """Rows `row` to `row + n_rows` of the stream; of those, the `rank`-th of `world` equal parts."""
        if n_rows % world or not 0 <= rank < world or row < 0 or n_rows < 1:
            raise ConfigError(f"{n_rows} rows from {row} for rank {rank} of {world}; expected ranks to divide the rows")
        mine = n_rows // world
        turns, spots = np.divmod(np.arange(row + rank * mine, row + (rank + 1) * mine), CYCLE_ROWS)
        sources = self.source_of[spots]
        numbers = turns * self.per_cycle[sources] + self.turn_of[spots]
        ids, targets = np.zeros(mine * self.T, np.int64), np.full(mine * self.T, IGNORED, np.int64)
        docs = np.full(mine * self.T, NOWHERE, np.int32)
        for s in np.unique(sources):
            where = np.flatnonzero(sources == s)
            self._fill(self.names[s], numbers[where], where * self.T, ids, targets, docs)
        return Batch(*(torch.from_numpy(flat).view(mine, self.T) for flat in (ids, targets, docs)))

    def _fill(self, name: str, numbers: np.ndarray, places: np.ndarray, ids: np.ndarray, targets: np.ndarray,
              docs: np.ndarray) -> None:
        """Write the source's rows with these running numbers at these places of the flat arrays."""
        rows, shard = self.rows[name], self.shards[name]
        epochs, spots = np.divmod(numbers, rows.n_rows)
        chosen = np.array([self.order(name, int(e))[i] for e, i in zip(epochs, spots)])
        counts = rows.first[chosen + 1] - rows.first[chosen]
        within = _ramp(counts)
        pieces = np.repeat(rows.first[chosen], counts) + within
        lengths = rows.lengths[pieces]
        before = np.cumsum(lengths) - lengths  # tokens of these rows before the piece
        before -= np.repeat(before[np.cumsum(counts) - counts], counts)  # ... within its own row
        step = _ramp(lengths)
        to = np.repeat(np.repeat(places, counts) + before, lengths) + step
        source = np.repeat(rows.starts[pieces], lengths) + step
        ids[to] = shard.tokens[source]
        docs[to] = np.repeat(within, lengths)
        after = source + 1 < np.repeat(rows.ends[pieces], lengths)
        to, source = to[after], source[after] + 1
        targets[to] = np.where(shard.trained[source] != 0, shard.tokens[source].astype(np.int64), IGNORED)


def plan(offsets: np.ndarray, T: int, key: int) -> Rows:
    """Cut documents into pieces of at most T tokens and lay the pieces into rows."""
    offsets = np.asarray(offsets, dtype=np.int64)
    sizes = np.diff(offsets)
    per_document = -(-sizes // T)
    nth = _ramp(per_document)
    starts = np.repeat(offsets[:-1], per_document) + nth * T
    ends = np.repeat(offsets[1:], per_document)
    lengths = np.minimum(ends - starts, T)
    shuffled = _permutation(len(lengths), key)
    by_length = shuffled[np.argsort(-lengths[shuffled], kind="stable")]  # longest first, shuffled within a length
    next_of = np.searchsorted(-lengths[by_length], -np.arange(T + 1), side="left")  # first piece of each length
    row_of, n_rows = np.empty(len(lengths), np.int64), 0
    for composition, count in best_fit(np.bincount(lengths, minlength=T + 1), T):
        for length in composition:
            taken = by_length[next_of[length]:next_of[length] + count]
            row_of[taken] = np.arange(n_rows, n_rows + count)
            next_of[length] += count
        n_rows += count
    order = np.argsort(row_of, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=n_rows))])
    return Rows(starts[order], lengths[order], ends[order], first)


def best_fit(histogram: np.ndarray, T: int) -> list[tuple[tuple[int, ...], int]]:
    """(lengths in a row, rows like that) so that each length is used as often as the histogram says.

    Best fit in decreasing order: each piece goes to the fullest row that still has room.  All rows with the same
    contents are one entry, so the work grows with the number of distinct lengths, not of documents.
    """
    room: dict[int, list[tuple[tuple[int, ...], int]]] = {}  # free tokens -> rows that have just so many
    open_rooms: list[int] = []
    done: list[tuple[tuple[int, ...], int]] = []

    def put(free: int, composition: tuple[int, ...], count: int) -> None:
        if free == 0:
            done.append((composition, count))
            return
        if not room.get(free):
            room[free] = []
            insort(open_rooms, free)
        room[free].append((composition, count))

    for length in range(T, 0, -1):
        left = int(histogram[length])
        while left:
            at = bisect_left(open_rooms, length)
            if at == len(open_rooms):  # no row has room: open as many as these pieces fill with each other
                each = T // length
                rows = max(1, left // each)
                here = min(each, left)
                put(T - here * length, (length,) * here, rows)
                left -= rows * here
                continue
            free = open_rooms[at]
            composition, count = room[free].pop()
            if not room[free]:
                open_rooms.pop(at)
            each = min(free // length, max(1, left // count))
            used = min(count, left // each)
            if used < count:
                put(free, composition, count - used)
            put(free - each * length, composition + (length,) * each, used)
            left -= used * each
    for entries in room.values():
        done += entries
    return done


def cycle(weights: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(source of each row of a cycle, its turn within the source, rows of each source in a cycle), evenly mixed."""
    shares = np.array(weights) / sum(weights) * CYCLE_ROWS
    counts = np.floor(shares).astype(np.int64)
    counts[np.argsort(counts - shares, kind="stable")[:CYCLE_ROWS - counts.sum()]] += 1
    if counts.min() == 0:
        raise ConfigError(f"weights {weights}: the smallest gives less than one row in {CYCLE_ROWS}; raise it or drop "
                          "its source")
    sources = np.repeat(np.arange(len(weights)), counts)
    turns = _ramp(counts)
    order = np.lexsort((sources, (turns + 0.5) / counts[sources]))
    return sources[order], turns[order], counts


def _ramp(counts: np.ndarray) -> np.ndarray:
    """0 .. count - 1 for each count, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)


def _key(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big")


def _permutation(n: int, key: int) -> np.ndarray:
    """A permutation of n numbers by their keyed hashes (splitmix64): the same with every version of numpy."""
    x = (np.arange(n, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(x ^ (x >> np.uint64(31)), kind="stable")
