"""Published tensors as views of our parameters, so that loading copies into the views and saving copies out
of them.

A table of slots is {published name: view}.  A view of three axes or more has rows that are cut up (head,
half, pair: see families/views.py); these three are published as one.  As both ways use one view, a round trip
is exact to the bit.
"""

from collections.abc import Callable, Collection, Container, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nomoat.config import WeightsError
from nomoat.weights.header import Outgoing

READABLE = (torch.float32, torch.bfloat16, torch.float16)
UNUSED = (".rotary_emb.inv_freq",)  # old files keep numbers that follow from config.json
STRIP = 64  # rows that are turned round at a time, so that both sides stay in the cache
WORDS = {8: torch.int64, 4: torch.int32, 2: torch.int16}
Slots = Mapping[str, Tensor]


class Source(Protocol):
    """Where tensors come from: safetensors, a GGUF file, blocks of FP8 that are multiplied out."""

    directory: Path

    @property
    def names(self) -> Mapping[str, Path]: ...

    def read(self, wanted: Container[str]) -> Iterator[tuple[str, Tensor, Path]]: ...


def published(slot: Tensor) -> Tensor:
    """The tensor of a view as files hold it."""
    return slot.flatten(0, 2) if slot.ndim > 2 else slot


def shape(slot: Tensor) -> tuple[int, ...]:
    """The shape of a view as files hold it."""
    rows = slot.shape[:3].numel()
    return (rows, *slot.shape[3:]) if slot.ndim > 2 else tuple(slot.shape)


def outgoing(slots: Slots) -> dict[str, Outgoing]:
    """What to write: every slot as published."""
    return {
        name: Outgoing(slot.dtype, shape(slot), partial(published, slot.detach()))
        for name, slot in slots.items()
    }


def memory(slots: Slots) -> dict[str, Tensor]:
    """The memory under each view that is in the order of the file, flat: what can be read into."""
    return {name: slot.detach().view(-1) for name, slot in slots.items() if slot.is_contiguous()}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a slot lies in a tensor of ours, which has a name, whether it has values yet or not."""

    own: str
    view: Tensor

    def on(self, tensor: Tensor) -> Tensor:
        """The same view of another tensor."""
        return tensor.as_strided(self.view.shape, self.view.stride(), self.view.storage_offset())


def places(slots: Slots, model: nn.Module) -> dict[str, Place]:
    """Where each slot of a model lies."""
    named = (*model.named_parameters(), *model.named_buffers())
    names = {id(tensor): name for name, tensor in named}
    whole = {name: slot if slot._base is None else slot._base for name, slot in slots.items()}
    return {name: Place(names[id(whole[name])], slot) for name, slot in slots.items()}


def on(places: Mapping[str, Place], tensors: Slots) -> dict[str, Tensor]:
    """The slots that lie in some tensors, which are under our names."""
    return {name: place.on(tensors[place.own]) for name, place in places.items() if place.own in tensors}


def gathered(places: Mapping[str, Place], value: Callable[[str], Tensor]) -> dict[str, Outgoing]:
    """The same of slots without values; `value(name)` is a whole tensor of ours, when its turn comes."""
    return {
        name: Outgoing(place.view.dtype, shape(place.view), partial(_made, place, value))
        for name, place in places.items()
    }


def _made(place: Place, value: Callable[[str], Tensor]) -> Tensor:
    return published(place.on(value(place.own)))


def check(slots: Collection[str], copies: Collection[str], tensors: Source) -> None:
    """WeightsError for names that aren't those of the slots."""
    for complaint in compare(slots, set(tensors.names) - set(copies)):
        raise WeightsError(
            f"{tensors.directory}: {complaint} of {len(slots)} expected tensors; the file is cut short or "
            "config.json belongs to another model; fetch or export both together"
        )


@torch.no_grad()
def fill(slots: Slots, copies: Slots, tensors: Source) -> None:
    """Every slot from the files, each tensor read once; `copies` are names that repeat a slot and must agree
    with it.

    WeightsError for shapes or types that aren't those of the slots.
    """
    for name, tensor, path in tensors.read(slots):
        _put(_checked(tensor, shape(slots[name]), name, path), slots[name])
    for name, tensor, _ in tensors.read(copies):
        if not torch.equal(tensor.to(copies[name].dtype), copies[name]):
            raise WeightsError(f"{name} differs from the shared matrix; expected a copy; untie or drop it")


def _put(tensor: Tensor, slot: Tensor) -> None:
    """A tensor into its slot, unless it was read into it; none of the ways waits for threads."""
    source = tensor.view(slot.shape)
    if slot.dtype == tensor.dtype and not slot.is_contiguous():
        rows = zip(slot.split(STRIP), source.split(STRIP))  # of a head in one piece, or turned round
        for strip, given in rows:
            np.copyto(_words(strip), _words(given))
    elif tensor.data_ptr() != slot.data_ptr():
        slot.copy_(source)


def _words(tensor: Tensor) -> np.ndarray:
    """The bits of numbers that numpy has no type for."""
    return tensor.detach().view(WORDS[tensor.dtype.itemsize]).numpy()


def _checked(tensor: Tensor, expected: tuple[int, ...], name: str, path: Path) -> Tensor:
    if tuple(tensor.shape) != expected:
        raise WeightsError(
            f"{name} in {path} is {list(tensor.shape)}; config.json expects {list(expected)}; "
            "use the config.json that these weights came with"
        )
    if tensor.dtype not in READABLE:
        raise WeightsError(
            f"{name} in {path} is {tensor.dtype}; expected float32, bfloat16 or float16; convert it"
        )
    return tensor


def differences(expected: Collection[str], present: Collection[str]) -> dict[str, list[str]]:
    """Names that are missing and names that nothing is known of."""
    surplus = sorted(name for name in set(present) - set(expected) if not name.endswith(UNUSED))
    return {"missing": sorted(set(expected) - set(present)), "unknown": surplus}


def compare(expected: Collection[str], present: Collection[str]) -> list[str]:
    """At most one sentence part about names that differ."""
    counted = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for what, names in differences(expected, present).items()
        if names
    ]
    return [" and ".join(counted)] if counted else []
