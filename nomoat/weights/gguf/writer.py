"""Bytes of a GGUF file, version 3: the header at once, then tensor by tensor."""

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nomoat.weights.gguf.header import ARRAY, MAGIC, STRING
from nomoat.weights.gguf.kinds import NUMBERS, Kind

ALIGNMENT, VERSION = 32, 3
_TYPES = {bool: (7, "?"), int: (4, "I"), float: (6, "f")}  # a whole number is a uint32, a number a float32
_SIGNED = (5, "i")  # in arrays


class Entry(NamedTuple):
    """A tensor to write: `data` gives its bytes when it is its turn."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    data: Callable[[], bytes | memoryview]

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) // self.kind.n_values * self.kind.n_bytes


def chunks(meta: Mapping[str, Any], entries: Iterable[Entry]) -> Iterator[bytes | memoryview]:
    """The file piece by piece, in order."""
    entries = list(entries)
    header = MAGIC + struct.pack("<IQQ", VERSION, len(entries), len(meta))
    header += b"".join(_string(key) + _value(value) for key, value in meta.items())
    offset, infos = 0, []
    for entry in entries:
        infos.append(_info(entry, offset))
        offset += entry.n_bytes + _padding(entry.n_bytes)
    header += b"".join(infos)
    yield header + bytes(_padding(len(header)))
    for entry in entries:
        yield entry.data()
        yield bytes(_padding(entry.n_bytes))


def _padding(n_bytes: int) -> int:
    return -n_bytes % ALIGNMENT


def _info(entry: Entry, offset: int) -> bytes:
    sizes = entry.shape[::-1]
    axes = struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
    return _string(entry.name) + axes + struct.pack("<IQ", NUMBERS[entry.kind.name], offset)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    if isinstance(value, list | tuple):
        return struct.pack("<I", ARRAY) + _array(value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    number, code = _TYPES[type(value)]
    return struct.pack(f"<I{code}", number, value)


def _array(values: Sequence[Any]) -> bytes:
    n = len(values)
    if isinstance(values[0], str):
        texts = b"".join(map(_string, values))
        return struct.pack("<IQ", STRING, n) + texts
    number, code = _SIGNED if isinstance(values[0], int) else _TYPES[float]
    return struct.pack(f"<IQ{n}{code}", number, n, *values)
