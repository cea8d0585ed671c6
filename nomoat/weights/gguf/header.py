"""The header of a GGUF file, read in bounds: every count, length and offset is held against the file before
anything is made from it.  No torch here.

    "GGUF" version n_tensors n_keys | key, type, value … | name, sizes, type, offset … | padding | data

Not read: version 1, big-endian files, arrays in arrays (llama.cpp doesn't either).
"""

import math
import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nomoat.config import WeightsError
from nomoat.weights.gguf.kinds import KINDS, Kind

MAGIC, VERSIONS = b"GGUF", (2, 3)
LARGEST_HEADER = 256 << 20  # bytes; the largest vocabularies take 16 MiB
MOST_ITEMS = 4 << 20  # in all arrays of a file together
MOST_TENSORS, LONGEST_NAME, MOST_AXES = 1 << 20, 1 << 16, 4
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
ALIGNMENT = "general.alignment"
_FIRST = re.compile(r"(.*)-00001-of-(\d{5})\.gguf")
_COUNT = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: its shape in torch's order, its kind of block, its bytes in a file."""

    shape: tuple[int, ...]
    kind: Kind
    offset: int
    n_bytes: int
    file: int = 0  # of Header.files


@dataclass(frozen=True)
class Header:
    """What a file says of itself: metadata (arrays as tuples or lists) and the place of each tensor.

    A model in several files is told by the first, whose name ends in -00001-of-N; `rest` are the others.
    """

    path: Path
    meta: dict[str, Any]
    tensors: dict[str, Place]
    rest: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        return self.path, *self.rest

    @classmethod
    def of(cls, path: str | Path) -> "Header":
        """WeightsError where a file is missing, is no GGUF, is cut short or contradicts itself."""
        header = cls._one(Path(path))
        n_files = header.meta.get("split.count", 1)
        return header if n_files == 1 else header._joined(n_files)

    def _joined(self, n_files: object) -> "Header":
        """With the tensors of the files beside it."""
        name = _FIRST.fullmatch(self.path.name)
        if name is None or not isinstance(n_files, int) or int(name[2]) != n_files:
            raise WeightsError(
                f"{self.path} is one of {n_files} files; expected the first, whose name ends in "
                "-00001-of-N.gguf; open that"
            )
        files = [self.path.with_name(f"{name[1]}-{n:05}-of-{name[2]}.gguf") for n in range(2, n_files + 1)]
        tensors = dict(self.tensors)
        for file, path in enumerate(files, start=1):
            for tensor, place in self._one(path).tensors.items():
                if tensor in tensors:
                    raise WeightsError(f"{path} repeats {tensor}; expected it once; fetch all files again")
                tensors[tensor] = replace(place, file=file)
        return replace(self, tensors=tensors, rest=tuple(files))

    @classmethod
    def _one(cls, path: Path) -> "Header":
        try:
            with open(path, "rb") as file:
                size = file.seek(0, 2)
                if size < 24:
                    raise _Wrong(f"it has {size} bytes")
                with mmap.mmap(file.fileno(), min(size, LARGEST_HEADER), access=mmap.ACCESS_READ) as data:
                    return cls(path, *_read(_Cursor(data), size))
        except OSError as error:
            raise WeightsError(f"no {path} ({error.strerror}); expected a GGUF file") from None
        except _Wrong as wrong:
            message = f"{path}: {wrong}; expected a whole GGUF file; fetch or export it again"
            raise WeightsError(message) from None


class _Wrong(Exception):
    """What is wrong with the file."""


class _Cursor:
    """Reads forward in a map of the file's beginning; nothing behind its end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at, self.end, self.n_items = data, 0, len(data), 0

    def take(self, n_bytes: int) -> int:
        """Where the next `n_bytes` begin."""
        at = self.at
        if n_bytes > self.end - at:
            raise _Wrong(f"{n_bytes} bytes are announced at byte {at}, {self.end - at} are there")
        self.at = at + n_bytes
        return at

    def numbers(self, code: str, n: int = 1) -> tuple[Any, ...]:
        layout = f"<{n}{code}"
        return struct.unpack_from(layout, self.data, self.take(struct.calcsize(layout)))

    def number(self, code: str) -> Any:
        return self.numbers(code)[0]

    def string(self, longest: int = LARGEST_HEADER) -> str:
        n_bytes = self.number("Q")
        if n_bytes > longest:
            raise _Wrong(f"a name of {n_bytes} bytes at byte {self.at}")
        at = self.take(n_bytes)
        return _text(self.data[at : self.at], at)

    def strings(self, n: int) -> list[str]:
        """`n` strings; the loop that vocabularies wait for."""
        data, at, end, unpack, texts = self.data, self.at, self.end, _COUNT.unpack_from, []
        for _ in range(n):
            start = at + 8
            if start > end:
                raise _Wrong(f"a text is announced at byte {at}, the end is {end}")
            at = start + unpack(data, at)[0]
            if at > end:
                raise _Wrong(f"a text at byte {start} ends behind {end}")
            texts.append(_text(data[start:at], start))
        self.at = at
        return texts

    def value(self) -> Any:
        kind = self.number("I")
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self.array()
        return self.number(_scalar(kind))

    def array(self) -> Any:
        kind, n = self.number("I"), self.number("Q")
        self.n_items += n
        if self.n_items > MOST_ITEMS:
            raise _Wrong(f"its arrays have more than {MOST_ITEMS} items")
        if kind == STRING:
            return self.strings(n)
        return self.numbers(_scalar(kind), n)


def _scalar(kind: int) -> str:
    if kind not in SCALARS:
        raise _Wrong(f"a value of type {kind}")
    return SCALARS[kind]


def _text(raw: bytes, at: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _Wrong(f"the text at byte {at} is not UTF-8") from None


def _read(cursor: _Cursor, size: int) -> tuple[dict[str, Any], dict[str, Place]]:
    """Metadata and tensors; `size` is the file's."""
    if cursor.data[:4] != MAGIC:
        raise _Wrong(f"it begins with {cursor.data[:4]!r}, not {MAGIC!r}")
    cursor.take(4)
    version = cursor.number("I")
    if version not in VERSIONS:
        raise _Wrong(f"version {version:#x}, not 2 or 3 with the low byte first")
    n_tensors = cursor.number("Q")
    n_keys = cursor.number("Q")
    if max(n_tensors, n_keys) > MOST_TENSORS:
        raise _Wrong(f"{n_tensors} tensors and {n_keys} keys are announced")
    meta = _meta(cursor, n_keys)
    tensors = [_info(cursor) for _ in range(n_tensors)]
    alignment = meta.get(ALIGNMENT, 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise _Wrong(f"{ALIGNMENT} is {alignment!r}")
    start = -(-cursor.at // alignment) * alignment
    return meta, dict(_placed(tensors, start, alignment, size))


def _meta(cursor: _Cursor, n_keys: int) -> dict[str, Any]:
    meta: dict[str, Any] = {}
    for _ in range(n_keys):
        key = cursor.string(LONGEST_NAME)
        if key in meta:
            raise _Wrong(f"the key {key!r} stands twice")
        meta[key] = cursor.value()
    return meta


def _info(cursor: _Cursor) -> tuple[str, Place]:
    """Name and place of a tensor, the latter from the beginning of the data on."""
    name = cursor.string(LONGEST_NAME)
    n_axes = cursor.number("I")
    if not 1 <= n_axes <= MOST_AXES:
        raise _Wrong(f"{name!r} has {n_axes} axes")
    sizes = cursor.numbers("Q", n_axes)
    number = cursor.number("I")
    if number not in KINDS:
        raise _Wrong(f"{name!r} is of type {number}")
    kind, n = KINDS[number], math.prod(sizes)
    if n < 1 or n >= 1 << 63 or sizes[0] % kind.n_values:
        raise _Wrong(f"{name!r} has sizes {list(sizes)} in blocks of {kind.n_values}")
    n_bytes = n // kind.n_values * kind.n_bytes
    offset = cursor.number("Q")
    return name, Place(sizes[::-1], kind, offset, n_bytes)


def _placed(
    tensors: list[tuple[str, Place]], start: int, alignment: int, size: int
) -> Iterator[tuple[str, Place]]:
    """Each tensor's place in the file, none behind its end, none over another."""
    seen: set[str] = set()
    end = 0
    for name, place in sorted(tensors, key=lambda tensor: tensor[1].offset):
        if name in seen:
            raise _Wrong(f"the tensor {name!r} stands twice")
        seen.add(name)
        if place.offset % alignment or place.offset < end:
            wrong = f"within another or not at a multiple of {alignment}"
            raise _Wrong(f"{name!r} begins at {place.offset}, {wrong}")
        end = place.offset + place.n_bytes
        if start + end > size:
            raise _Wrong(f"{name!r} ends at byte {start + end} of {size}")
        yield name, replace(place, offset=start + place.offset)
