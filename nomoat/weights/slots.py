"""Published tensors as views of our parameters, so that loading copies into the views and saving copies out
of them.

A table of slots is {published name: view}.  A view of three axes is published with its first two flattened.
As both ways use one view, a round trip is exact to the bit.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from nomoat.config import WeightsError
from nomoat.weights.files import Tensors

READABLE = (torch.float32, torch.bfloat16, torch.float16)
Slots = Mapping[str, Tensor]


def published(slot: Tensor) -> Tensor:
    """The tensor of a view as files hold it."""
    return slot.flatten(0, 1) if slot.ndim == 3 else slot


def collect(slots: Slots) -> dict[str, Tensor]:
    """What to write: every slot as published, contiguous, on the CPU."""
    return {name: published(slot.detach()).cpu().contiguous() for name, slot in slots.items()}


@torch.no_grad()
def fill(slots: Slots, copies: Slots, tensors: Tensors) -> None:
    """Every slot from the files, each tensor read once; `copies` are names that repeat a slot and must agree
    with it.

    WeightsError for names, shapes or types that aren't those of the slots.
    """
    _compare_names(set(slots), set(tensors.names) - set(copies), tensors.directory)
    for name, tensor, path in tensors.read(slots):
        slot = slots[name]
        slot.copy_(_checked(tensor, published(slot).shape, name, path).view(slot.shape))
    for name, tensor, _ in tensors.read(copies):
        if not torch.equal(tensor.to(copies[name].dtype), copies[name]):
            raise WeightsError(f"{name} differs from the shared matrix; expected a copy; untie or drop it")


def _checked(tensor: Tensor, shape: torch.Size, name: str, path: Path) -> Tensor:
    if tensor.shape != shape:
        raise WeightsError(
            f"{name} in {path} is {list(tensor.shape)}; config.json expects {list(shape)}; "
            "use the config.json that these weights came with"
        )
    if tensor.dtype not in READABLE:
        raise WeightsError(
            f"{name} in {path} is {tensor.dtype}; expected float32, bfloat16 or float16; convert it"
        )
    return tensor


def _compare_names(expected: set[str], present: set[str], directory: Path) -> None:
    wrong = {"missing": sorted(expected - present), "unknown": sorted(present - expected)}
    counted = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for what, names in wrong.items()
        if names
    ]
    if counted:
        raise WeightsError(
            f"{directory}: {' and '.join(counted)} of {len(expected)} expected tensors; the file is cut "
            "short or config.json belongs to another model; fetch or export both together"
        )
