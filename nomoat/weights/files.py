"""safetensors and JSON files of a Hugging Face directory, read with an error.  No pickle, no remote code."""

import mmap
import os
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nomoat.config import WeightsError
from nomoat.files import read_json
from nomoat.weights import header
from nomoat.weights.header import Entry

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARED_BYTES = 64 << 20
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth")
CONVERSION = 'AutoModelForCausalLM.from_pretrained("DIR").save_pretrained("OUT")'


@dataclass(frozen=True)
class Tensors:
    """The tensors of a directory by name; experts that a file stacks stand under their names apart.

    `places` is memory that tensors of the same type and size are read into.
    """

    directory: Path
    entries: Mapping[str, Entry]
    places: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, directory: Path) -> "Tensors":
        """From the index of a sharded directory, or its one file; reads headers alone."""
        entries: dict[str, Entry] = {}
        for path in shards(directory):
            for name, entry in header.apart(header.read(path)):
                if name in entries:
                    places = f"{entries[name].path.name} and in {path.name}"
                    raise WeightsError(f"{name} is in {places}; expected it once; fetch the directory again")
                entries[name] = entry
        return cls(directory, entries)

    @property
    def n_numbers(self) -> int:
        return sum(entry.n_bytes // entry.dtype.itemsize for entry in self.entries.values())

    @property
    def names(self) -> dict[str, Path]:
        """The file of each tensor."""
        return {name: entry.path for name, entry in self.entries.items()}

    def placed(self, places: Mapping[str, Tensor]) -> "Tensors":
        return replace(self, places=places)

    def read(self, wanted: Container[str]) -> Iterator[tuple[str, Tensor, Path]]:
        """(name, tensor, file) of those that are wanted and there, in the order of the files' bytes.

        A tensor without a place is good until the next one comes: small ones share their memory.
        """
        shared = torch.empty(0, dtype=torch.uint8)
        for name in (name for name in self.entries if name in wanted):
            entry, place = self.entries[name], self.places.get(name)
            if not _fits(place, entry) and entry.n_bytes <= SHARED_BYTES:
                if shared.nbytes < entry.n_bytes:
                    shared = torch.empty(entry.n_bytes, dtype=torch.uint8)
                place = shared[: entry.n_bytes].view(entry.dtype)
            yield name, self.tensor(name, place), entry.path

    def tensor(self, name: str, place: Tensor | None = None) -> Tensor:
        """One tensor: read into a place of its type and size, else as a map of its file."""
        entry = self.entries[name]
        if not entry.n_bytes:
            return torch.empty(entry.shape, dtype=entry.dtype)
        try:
            with open(entry.path, "rb") as file:
                if place is not None and _fits(place, entry):
                    _read_into(file.fileno(), entry.start, place)
                    return place.view(entry.shape)
                return _mapped(file.fileno(), entry)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{entry.path} changed while it was read ({error}); read it again") from None


def _fits(place: Tensor | None, entry: Entry) -> bool:
    return place is not None and (place.dtype, place.nbytes) == (entry.dtype, entry.n_bytes)


def _read_into(file: int, start: int, place: Tensor) -> None:
    """The bytes from `start` on into the memory of a flat tensor: the kernel's copy is the only one."""
    left = memoryview(place.view(torch.uint8).numpy())
    while left:
        n_read = os.preadv(file, [left], start)
        if not n_read:
            raise ValueError(f"it ends at byte {start:,}")
        left, start = left[n_read:], start + n_read


def _mapped(file: int, entry: Entry) -> Tensor:
    """Pages of the kernel's cache, no memory of its own; what is written there stays out of the file."""
    behind = entry.start % mmap.ALLOCATIONGRANULARITY
    page, size = entry.start - behind, behind + entry.n_bytes
    pages = mmap.mmap(file, size, access=mmap.ACCESS_COPY, offset=page)
    if entry.start % entry.dtype.itemsize:  # no tensor may begin there
        return _flat(bytearray(pages[behind:]), entry, 0)
    return _flat(pages, entry, behind)


def _flat(memory: mmap.mmap | bytearray, entry: Entry, offset: int) -> Tensor:
    return torch.frombuffer(memory, dtype=entry.dtype, offset=offset).view(entry.shape)


def shards(directory: Path) -> list[Path]:
    """The safetensors files of a directory; WeightsError where one is missing or lies elsewhere."""
    names: list[Any] = [WEIGHTS]
    if (directory / INDEX).is_file():
        weight_map = json_of(directory / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
            raise WeightsError(f"{INDEX} has no weight_map of names to files; fetch or export it again")
        names = sorted(set(weight_map.values()))
    return [_shard(directory, name) for name in names]


def _shard(directory: Path, name: str) -> Path:
    path = directory / name
    if Path(name).name != name or path.suffix != ".safetensors":
        expected = "a file beside config.json whose name ends in .safetensors"
        raise WeightsError(f"{INDEX} names {name!r}; expected {expected}; nothing else is read")
    if path.is_file():
        return path
    for pickle in (pickle for pickle in PICKLES if (directory / pickle).exists()):
        raise WeightsError(
            f"{directory} has {pickle}, a pickle: to read it is to run whatever code it holds; expected "
            f"{WEIGHTS}; convert it where that may happen, with transformers: {CONVERSION}"
        )
    raise WeightsError(f"no {path}; expected safetensors files beside config.json; fetch or export it again")


def json_of(path: Path) -> dict[str, Any]:
    expected = "a Hugging Face directory with config.json and safetensors"
    return read_json(path, WeightsError, expected, "fetch or export it again")
