"""safetensors and JSON files of a Hugging Face directory, read with an error.  No pickle, no remote code."""

import contextlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from nomoat.config import WeightsError
from nomoat.files import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class Tensors:
    """The tensors of a directory, by the name of the file that holds each."""

    directory: Path
    names: dict[str, Path]

    @classmethod
    def of(cls, directory: Path) -> "Tensors":
        """From the index of a sharded directory, or its one file."""
        shards = [WEIGHTS]
        if (directory / INDEX).is_file():
            shards = sorted(set(json_of(directory / INDEX).get("weight_map", {}).values()))
        names: dict[str, Path] = {}
        for shard in shards:
            path = directory / str(shard)
            if path.parent != directory or path.suffix != ".safetensors" or not path.is_file():
                expected = "safetensors files beside config.json"
                raise WeightsError(f"no {path}; expected {expected}; fetch or export it again")
            with _opened(path) as file:
                names |= dict.fromkeys(file.keys(), path)
        return cls(directory, names)

    def read(self, wanted: Container[str]) -> Iterator[tuple[str, Tensor, Path]]:
        """(name, tensor, file) of those that are wanted and there, file by file."""
        for path in sorted(set(self.names.values())):
            with _opened(path) as file:
                for name in (name for name in file.keys() if name in wanted):  # noqa: SIM118  (no dict)
                    yield name, file.get_tensor(name), path


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        what_to_do = "expected a safetensors file; fetch or export it again"
        raise WeightsError(f"{path}: {error}; {what_to_do}") from None


def json_of(path: Path) -> dict[str, Any]:
    expected = "a Hugging Face directory with config.json and safetensors"
    return read_json(path, WeightsError, expected, "fetch or export it again")
