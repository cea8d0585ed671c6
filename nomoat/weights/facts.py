"""What a Hugging Face directory holds, told from config.json and the headers alone: no tensor is read."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from nomoat.model import counts
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer
from nomoat.weights import fp8, slots
from nomoat.weights.directory import opened
from nomoat.weights.families import of_config
from nomoat.weights.files import Tensors


@dataclass(frozen=True, slots=True)
class Facts:
    """A model before it is loaded; `dtypes` counts numbers by their type, `misshapen` are tensors of another
    shape than config.json expects.
    """

    family: str
    spec: Spec
    dtypes: dict[str, int]
    n_shards: int
    n_bytes: int
    parameters: int
    active: int
    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    misshapen: tuple[str, ...]


def describe(directory: str | Path) -> Facts:
    """The facts of a directory; WeightsError for what no loader here reads, not for tensors that differ."""
    config, tensors, spec = opened(Path(directory))
    names, source = of_config(config), fp8.Multiplied(tensors, config)
    with torch.device("meta"):
        model = Transformer(spec)
    table = names.slots(model)
    present = {name: tensors.entries[name] for name in source.names}
    differing = slots.differences(table, set(present) - set(names.copies(model)))
    both = table.keys() & present.keys()
    misshapen = sorted(name for name in both if slots.shape(table[name]) != present[name].shape)
    return Facts(
        family=config["model_type"],
        spec=spec,
        dtypes=_dtypes(tensors),
        n_shards=len(set(tensors.names.values())),
        n_bytes=sum(entry.n_bytes for entry in tensors.entries.values()),
        parameters=counts.params_total(spec),
        active=counts.params_active(spec),
        missing=tuple(differing["missing"]),
        surplus=tuple(differing["unknown"]),
        misshapen=tuple(misshapen),
    )


def _dtypes(tensors: Tensors) -> dict[str, int]:
    numbers: Counter[str] = Counter()
    for entry in tensors.entries.values():
        name = str(entry.dtype).removeprefix("torch.")
        numbers[name] += entry.n_bytes // entry.dtype.itemsize
    return dict(numbers.most_common())
