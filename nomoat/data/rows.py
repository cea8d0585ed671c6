"""Which documents share a row: best fit in decreasing length, of any number of documents in bounded memory.

A document is cut into pieces of at most T tokens.  A piece is known by where it starts; where its document
ends, and so how long it is, follows from the offsets.  Longest first, and of one length in the order of keyed
hashes, the pieces fill rows whose compositions best fit found from the histogram of lengths alone.  What
grows with the documents are 8 bytes a piece, in a file that has no name once there are many.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nomoat.data.shards import blank

Composition = tuple[int, ...]  # the lengths of the pieces in a row
WINDOW = 2**20  # documents, pieces or rows that are looked at together, in memory
Record = tuple[np.ndarray, np.ndarray, np.ndarray]  # values, groups, hashes
INT = np.dtype(np.int64)
RECORD = np.dtype([("value", INT), ("group", INT), ("hash", np.uint64)])


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one source: block b has rows block_row[b]:block_row[b+1] of n_pieces[b] pieces each, which
    begin at the tokens `starts` from block_piece[b] on.
    """

    T: int
    offsets: np.ndarray
    starts: np.ndarray
    block_row: np.ndarray
    block_piece: np.ndarray
    n_pieces: np.ndarray

    @property
    def n_rows(self) -> int:
        return int(self.block_row[-1])

    def pieces(self, row: int) -> Iterator[tuple[int, int, int]]:
        """(start, length, end of its document) of each piece in a row."""
        starts = self.starts[self._places(row)]
        behind = np.searchsorted(self.offsets, starts, side="right")
        ends = self.offsets[behind]
        lengths = np.minimum(ends - starts, self.T)
        return zip(starts.tolist(), lengths.tolist(), ends.tolist())

    def _places(self, row: int) -> slice:
        """Where its pieces are in `starts`."""
        block = np.searchsorted(self.block_row, row, side="right") - 1
        n = self.n_pieces[block]
        at = self.block_piece[block] + (row - self.block_row[block]) * n
        return slice(at, at + n)


def plan(offsets: np.ndarray, T: int, key: int) -> Rows:
    """Cut documents into pieces of at most T tokens and lay the pieces into rows."""
    histogram = np.zeros(T + 1, np.int64)
    for _, lengths in _pieces(offsets, T):
        histogram += np.bincount(lengths, minlength=T + 1)

    def records() -> Iterator[Record]:
        n = 0
        for starts, lengths in _pieces(offsets, T):
            yield starts, T - lengths, hashes(n, len(starts), key)
            n += len(starts)

    longest_first = arranged(records, int(histogram.sum()), T + 1)
    blocks = best_fit(histogram, T)
    starts = blank(len(longest_first), INT)
    _lay(longest_first, histogram, blocks, starts)
    n_rows = np.array([count for _, count in blocks], INT)
    n_pieces = np.array([len(composition) for composition, _ in blocks], INT)
    return Rows(T, offsets, starts, _before(n_rows), _before(n_rows * n_pieces), n_pieces)


def _pieces(offsets: np.ndarray, T: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(starts, lengths) of the pieces in order, no more than about WINDOW at a time but of one document."""
    n_documents = max(len(offsets) - 1, 0)
    first = 0
    while first < n_documents:
        part = np.asarray(offsets[first : first + WINDOW + 1], INT)
        last = part[0] + WINDOW * T
        n_edges = int(np.searchsorted(part, last, side="right"))
        part = part[: max(n_edges, 2)]
        sizes = np.diff(part)
        per_document = -(-sizes // T)
        starts = np.repeat(part[:-1], per_document)
        starts += ramp(per_document) * T
        ends = np.repeat(part[1:], per_document)
        lengths = np.minimum(ends - starts, T)
        yield starts, lengths
        first += len(sizes)


def _lay(
    longest_first: np.ndarray,
    histogram: np.ndarray,
    blocks: list[tuple[Composition, int]],
    starts: np.ndarray,
) -> None:
    """Write the pieces of the rows of all blocks into `starts`; within a row they stand as in the source."""
    next_of = len(longest_first) - np.cumsum(histogram)  # the first piece of each length
    at = 0
    for composition, count in blocks:
        first = []
        for length in composition:
            first.append(int(next_of[length]))
            next_of[length] += count
        step = max(WINDOW // len(composition), 1)
        for row in range(0, count, step):
            n_rows = min(step, count - row)
            columns = [longest_first[place + row :][:n_rows] for place in first]
            block = np.stack(columns, axis=1)
            block.sort(axis=1)
            starts[at : at + block.size] = block.ravel()
            at += block.size


def _before(counts: np.ndarray) -> np.ndarray:
    """How many come before each, and all."""
    return np.concatenate([np.zeros(1, INT), np.cumsum(counts)])


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


# --- sorting ---


def arranged(records: Callable[[], Iterator[Record]], n: int, n_groups: int) -> np.ndarray:
    """The values of `n` records by (group, hash, value).

    More than WINDOW are parted first by group and the first bits of their hashes, in a file, and then sorted
    part by part.
    """
    if n <= WINDOW:
        whole = [np.concatenate(column) for column in zip(*records())]
        return _sorted(*whole) if whole else np.empty(0, INT)
    bucket, n_of = _buckets(records, n_groups)
    part_of = (np.cumsum(n_of) - n_of) // WINDOW
    sizes = np.bincount(part_of, n_of).astype(INT)
    edges = _before(sizes)
    parted = blank(n, RECORD)
    at = edges[:-1].copy()
    for values, groups, hashed in records():
        chunk = np.empty(len(values), RECORD)
        chunk["value"], chunk["group"], chunk["hash"] = values, groups, hashed
        part = part_of[bucket(groups, hashed)]
        chunk = chunk[np.argsort(part, kind="stable")]
        ends = _before(np.bincount(part, minlength=len(at)))
        for number, (begin, end) in enumerate(pairwise(ends.tolist())):
            place = at[number]
            parted[place : place + end - begin] = chunk[begin:end]
        at += np.diff(ends)
    out = blank(n, INT)
    for begin, end in pairwise(edges.tolist()):
        chunk = np.array(parted[begin:end])
        out[begin:end] = _sorted(chunk["value"], chunk["group"], chunk["hash"])
    return out


Bucket = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (groups, hashes) -> numbers


def _buckets(records: Callable[[], Iterator[Record]], n_groups: int) -> tuple[Bucket, np.ndarray]:
    """What numbers buckets in the order of (group, hash), and how many records are in each: about WINDOW at
    most.
    """
    n_of_group = np.zeros(n_groups, INT)
    for _, groups, _ in records():
        n_of_group += np.bincount(groups, minlength=n_groups)
    bits = np.array([int(n // WINDOW).bit_length() for n in n_of_group], np.uint64)
    n_buckets = np.left_shift(1, bits.astype(INT))
    first = _before(n_buckets)

    def bucket(groups: np.ndarray, hashed: np.ndarray) -> np.ndarray:
        shift = np.uint64(63) - bits[groups]
        leading = hashed >> np.uint64(1) >> shift
        return first[groups] + leading.astype(INT)

    n_of = np.zeros(int(first[-1]), INT)
    for _, groups, hashed in records():
        numbers = bucket(groups, hashed)
        n_of += np.bincount(numbers, minlength=len(n_of))
    return bucket, n_of


def _sorted(values: np.ndarray, groups: np.ndarray, hashed: np.ndarray) -> np.ndarray:
    return values[np.lexsort((values, hashed, groups))]


def permutation(n: int, key: int) -> np.ndarray:
    """A permutation of n numbers by their keyed hashes: the same with every version of numpy."""

    def records() -> Iterator[Record]:
        for first in range(0, n, WINDOW):
            values = np.arange(first, min(first + WINDOW, n))
            yield values, np.zeros_like(values), hashes(first, len(values), key)

    return arranged(records, n, 1)


def hashes(first: int, n: int, key: int) -> np.ndarray:
    """Keyed hashes of the n numbers from `first` on (splitmix64)."""
    x = (np.arange(first, first + n, dtype=np.uint64) + 1) * 0x9E3779B97F4A7C15 + key
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)


def ramp(counts: np.ndarray) -> np.ndarray:
    """0 .. count - 1 for each count, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
