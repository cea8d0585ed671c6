"""The header of a safetensors file: what each tensor is and where, read without a byte of the tensors.

A file is eight bytes that give the length of the header, the header (JSON), and the tensors without gaps.
Whatever a header says is compared with the size of the file before anything is done with it.
"""

import json
import math
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nomoat.config import WeightsError
from nomoat.files import once

LIMIT_BYTES = 32 << 20  # of a header: three hundred thousand tensors
N_EXPERTS = 4096  # the most that one stacked tensor may hold
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
KEYS = ("dtype", "shape", "data_offsets")
STACKED = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file; `start` counts bytes from the beginning of the file."""

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


# --- reading ---


def read(path: Path) -> dict[str, Entry]:
    """The tensors of a file in the order of their bytes; WeightsError for anything that is no such file."""
    try:
        table, begin, n_file = _table(path)
    except OSError as error:
        raise _broken(path, f"can't be read ({error.strerror})") from None
    table.pop("__metadata__", None)
    entries = {name: _entry(path, name, fields, begin) for name, fields in table.items()}
    order = sorted(entries, key=lambda name: (entries[name].start, entries[name].n_bytes))
    end = begin
    for name in order:
        if entries[name].start != end:
            raise _broken(path, f"{name[:99]} does not begin where the tensor before it ends")
        end += entries[name].n_bytes
    if end != n_file:
        raise _broken(path, f"its header speaks of {end:,} bytes and it has {n_file:,}")
    return {name: entries[name] for name in order}


def _table(path: Path) -> tuple[dict[str, Any], int, int]:
    """The JSON of a header, where the tensors begin, and the size of the file."""
    with open(path, "rb") as file:
        n_file = file.seek(0, 2)
        file.seek(0)
        n_header = int.from_bytes(file.read(8), "little")
        if n_file < 8 or not 2 <= n_header <= min(LIMIT_BYTES, n_file - 8):
            raise _broken(path, f"its first bytes announce a header of {n_header:,} bytes in {n_file:,}")
        text = file.read(n_header)
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is no JSON ({type(error).__name__})") from None
    if not isinstance(table, dict):
        raise _broken(path, f"its header is a {type(table).__name__}, expected an object")
    return table, 8 + n_header, n_file


def _entry(path: Path, name: str, fields: Any, begin: int) -> Entry:
    if _is_tensor(fields):
        dtype, shape, (first, end) = (fields[key] for key in KEYS)
        entry = Entry(path, DTYPES[dtype], tuple(shape), begin + first)
        if entry.n_bytes == end - first:
            return entry
    raise _broken(path, f"{name[:99]} is {str(fields)[:200]}, no type, shape and offsets that agree")


def _is_tensor(fields: Any) -> bool:
    if not isinstance(fields, dict) or set(fields) != set(KEYS):
        return False
    dtype, shape, offsets = (fields[key] for key in KEYS)
    typed = isinstance(dtype, str) and dtype in DTYPES
    return typed and _counts(shape, range(9)) and _counts(offsets, (2,))


def _counts(numbers: Any, lengths: Container[int]) -> bool:
    if not isinstance(numbers, list) or len(numbers) not in lengths:
        return False
    return all(type(n) is int and 0 <= n < 1 << 62 for n in numbers)


def _broken(path: Path, why: str) -> WeightsError:
    expected = "expected a safetensors file, and all of it"
    return WeightsError(f"{path}: {why}; {expected}; fetch or export it again")


def apart(entries: Mapping[str, Entry]) -> Iterator[tuple[str, Entry]]:
    """Stacked experts (`experts.gate_up_proj`, `experts.down_proj`) under the names that they have apart."""
    for name, entry in entries.items():
        layer, stacked, matrix = name.rpartition(".experts.")
        if stacked and matrix in STACKED and len(entry.shape) == 3 and entry.n_bytes:
            yield from _unstacked(f"{layer}.experts", entry, STACKED[matrix])
        else:
            yield name, entry


def _unstacked(at: str, entry: Entry, parts: tuple[str, ...]) -> Iterator[tuple[str, Entry]]:
    n_experts, n_rows, n_columns = entry.shape
    if n_experts > N_EXPERTS or n_rows % len(parts):
        raise _broken(entry.path, f"{at} is stacked as {list(entry.shape)}")
    names = [f"{at}.{expert}.{part}.weight" for expert in range(n_experts) for part in parts]
    shape = n_rows // len(parts), n_columns
    return zip(names, _pieces(entry, shape))


def _pieces(entry: Entry, shape: tuple[int, ...]) -> Iterator[Entry]:
    piece = replace(entry, shape=shape)
    while True:
        yield piece
        piece = replace(piece, start=piece.start + piece.n_bytes)


# --- writing ---


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A tensor to be written, made when its turn comes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], torch.Tensor]

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def in_order(tensors: Mapping[str, Outgoing]) -> list[str]:
    """Their names as a file has them."""
    return sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))


def file_of(tensors: Mapping[str, Outgoing]) -> Iterator[bytes | memoryview]:
    """A safetensors file piece by piece: widest types first, so that each tensor begins at a multiple of its
    width.
    """
    order = in_order(tensors)
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        tensor, first = tensors[name], end
        end += tensor.n_bytes
        fields = NAMES[tensor.dtype], list(tensor.shape), [first, end]
        table[name] = dict(zip(KEYS, fields))
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        made = tensors[name].make().detach().cpu().contiguous()
        yield memoryview(made.view(-1).view(torch.uint8).numpy())
