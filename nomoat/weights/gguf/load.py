"""A GGUF file -> a model.  Each tensor goes from a map of the file into its view, once."""

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor

from nomoat.config import WeightsError
from nomoat.model.counts import params_active, params_total
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Transformer
from nomoat.weights.directory import empty
from nomoat.weights.facts import Facts
from nomoat.weights.gguf import blocks, facts, names, positions
from nomoat.weights.gguf.header import Header
from nomoat.weights.gguf.metadata import Metadata
from nomoat.weights.gguf.names import Slot
from nomoat.weights.slots import differences


@dataclass(frozen=True)
class Tensors:
    """The numbers of a model, tensor by tensor."""

    header: Header
    maps: Sequence[Tensor]  # all bytes of each file

    @classmethod
    def of(cls, header: Header) -> "Tensors":
        return cls(header, [torch.from_numpy(numpy.memmap(path, mode="c")) for path in header.files])

    def raw(self, name: str) -> Tensor:
        place = self.header.tensors[name]
        return self.maps[place.file][place.offset : place.offset + place.n_bytes]

    def tensor(self, name: str) -> Tensor:
        """One tensor in float32, or in the file's own type where that is plain."""
        place = self.header.tensors[name]
        return blocks.dequantise(self.raw(name), place.kind, place.shape)

    def into(self, name: str, slot: Slot) -> None:
        """One tensor into its view; without a copy between them where the view is one piece of float32."""
        place = self.header.tensors[name]
        view = slot.view.detach()
        packed = place.kind.name not in blocks.PLAIN
        if packed and view.is_contiguous() and view.dtype == torch.float32:
            blocks.decode(self.raw(name), place.kind, view.view(-1, place.kind.n_values))
        else:
            view.copy_(self.tensor(name).view(view.shape))


def spec_of(header: Header) -> Spec:
    """What the model in a file is; reads no weights but the few divisors of a Llama 3 stretch."""
    spec = facts.spec_of(header)
    if positions.FREQUENCIES not in header.tensors:
        return spec
    found = Tensors.of(header).tensor(positions.FREQUENCIES)
    return positions.with_divisors(spec, found, Metadata(header.path, header.meta))


@torch.no_grad()
def load(
    file: str | Path | Header, kernels: Kernels | None = None, *, dtype: torch.dtype = torch.float32
) -> Transformer:
    """The model in a GGUF file (or one whose header was read), dequantised, in evaluation mode.

    WeightsError for a damaged file, an architecture that isn't ours, names or shapes that don't fit.
    """
    header = file if isinstance(file, Header) else Header.of(file)
    spec = spec_of(header)
    _check_size(spec, header)
    model = empty(spec, kernels, dtype=dtype).eval()
    table = _slots(model, header)
    _compare(table, expected(model, header), header)
    tensors = Tensors.of(header)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        placed = [pool.submit(tensors.into, name, table[name]) for name in header.tensors if name in table]
    for done in placed:
        done.result()
    for name, original in names.copies(model).items():
        if name in header.tensors and not torch.equal(tensors.tensor(name).to(dtype), original):
            raise WeightsError(
                f"{header.path}: {name} is no copy; expected one of the shared matrix; drop it"
            )
    return model


def facts_of(header: Header) -> Facts:
    """What the file holds, told from its header alone: no tensor is read but a stretch's divisors."""
    spec = spec_of(header)
    with torch.device("meta"):
        model = Transformer(spec)
    numbers: Counter[str] = Counter()
    for place in header.tensors.values():
        numbers[place.kind.name] += math.prod(place.shape)
    differing = differences(expected(model, header), header.tensors)
    return Facts(
        family=header.meta["general.architecture"],
        spec=spec,
        dtypes=dict(numbers.most_common()),
        n_shards=len(header.files),
        n_bytes=sum(place.n_bytes for place in header.tensors.values()),
        parameters=params_total(spec),
        active=params_active(spec),
        missing=tuple(differing["missing"]),
        surplus=tuple(differing["unknown"]),
        misshapen=(),
    )


def _slots(model: Transformer, header: Header) -> dict[str, Slot]:
    split = "blk.0.attn_k_b.weight" in header.tensors
    return names.slots(model, Metadata(header.path, header.meta).architecture, split=split)


def expected(model: Transformer, header: Header) -> set[str]:
    """The names that this file of a model should have; what may be absent or there is as it is."""
    table, present = _slots(model, header), set(header.tensors)
    optional = {name for name in table if name.endswith(names.OPTIONAL)}
    allowed = {positions.FREQUENCIES, *names.copies(model)}
    return set(table) - (optional - present) | (allowed & present)


def _check_size(spec: Spec, header: Header) -> None:
    """WeightsError for metadata that ask for far more numbers than there are, before memory is asked for;
    which are missing is told later.
    """
    n_held = sum(math.prod(place.shape) for place in header.tensors.values())
    n_asked = params_total(spec)
    if n_asked > 2 * n_held:
        raise WeightsError(
            f"{header.path} describes a model of {n_asked} parameters and holds {n_held}; expected as many; "
            "fetch or export it again"
        )


def _compare(table: dict[str, Slot], names_expected: set[str], header: Header) -> None:
    """WeightsError for names and shapes that aren't those of the model."""
    missing = sorted(names_expected - set(header.tensors))
    unknown = sorted(set(header.tensors) - names_expected)
    for what, wrong in (("no", missing), ("an unknown", unknown)):
        if wrong:
            more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
            raise WeightsError(
                f"{header.path} has {what} tensor {wrong[0]}{more}; expected the {len(table)} that its "
                "metadata ask for; fetch or export it again"
            )
    for name, slot in table.items():
        found = header.tensors[name].shape if name in header.tensors else slot.shape
        if found != slot.shape:
            raise WeightsError(
                f"{name} in {header.path} is {list(found)}; its metadata ask for {list(slot.shape)}; fetch "
                "or export it again"
            )
