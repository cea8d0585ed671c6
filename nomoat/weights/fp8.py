"""Block-scaled FP8 as DeepSeek-V3 publishes it (V3 report, section 3.3): e4m3 numbers, and a float32 for each
block of 128 x 128 of a matrix, `weight_scale_inv`, by which the numbers of the block are multiplied.

Matrices of attention and feed-forward are in FP8; embedding, head, router, norms, biases and the matrix that
joins an extra depth keep their type.
"""

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nomoat.config import WeightsError
from nomoat.weights.files import Tensors
from nomoat.weights.header import Outgoing
from nomoat.weights.slots import Slots, published

SCALE = "_scale_inv"
BLOCK = (128, 128)
LARGEST = torch.finfo(torch.float8_e4m3fn).max
QUANTISED = ("_proj.weight", "kv_a_proj_with_mqa.weight")
KEPT = "eh_proj.weight"
CONFIG = {
    "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": list(BLOCK),
}  # fmt: skip


class Multiplied:
    """The tensors of a directory, those in FP8 multiplied by their scales, float32."""

    def __init__(self, tensors: Tensors, config: Mapping[str, Any]):
        self.tensors, self.directory, self.block = tensors, tensors.directory, block_of(config)
        entries = tensors.entries
        fp8 = [name for name, entry in entries.items() if entry.dtype == torch.float8_e4m3fn]
        self.scales = {name: name + SCALE for name in fp8 if name + SCALE in entries}

    @property
    def names(self) -> dict[str, Path]:
        scales = set(self.scales.values())
        return {name: path for name, path in self.tensors.names.items() if name not in scales}

    def read(self, wanted: Container[str]) -> Iterator[tuple[str, Tensor, Path]]:
        for name, tensor, path in self.tensors.read(wanted):
            if name in self.scales:
                tensor = multiply(tensor, self._scale(name), self.block)
            yield name, tensor, path

    def _scale(self, name: str) -> Tensor:
        shape, scale = self.tensors.entries[name].shape, self.tensors.tensor(self.scales[name])
        expected = blocks_of(shape, self.block)
        if len(shape) != 2 or tuple(scale.shape) != expected:
            found = f"{name} is {list(shape)} and its scales {list(scale.shape)}"
            raise WeightsError(f"{found}; expected {list(expected)}, one a block; fetch it again")
        return scale


def block_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of a block; WeightsError for weights that are quantised in another way."""
    quantised = config.get("quantization_config")
    if quantised is None:
        return BLOCK
    method = quantised.get("quant_method") if isinstance(quantised, Mapping) else quantised
    size = quantised.get("weight_block_size", BLOCK) if isinstance(quantised, Mapping) else None
    if method != "fp8" or not _is_block(size):
        raise WeightsError(
            f"config.json has a quantization_config of {method!r} in blocks of {size!r}; expected 'fp8' in "
            "blocks, as DeepSeek's; take the weights that aren't quantised, or a GGUF file of them"
        )
    return size[0], size[1]


def _is_block(size: object) -> bool:
    return isinstance(size, list | tuple) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)


def blocks_of(shape: Sequence[int], block: tuple[int, int] = BLOCK) -> tuple[int, ...]:
    """How many blocks a matrix has, down and across."""
    return tuple(math.ceil(n / size) for n, size in zip(shape, block))


@torch.no_grad()
def multiply(weight: Tensor, scale: Tensor, block: tuple[int, int]) -> Tensor:
    """weight (rows, columns) times the scale of its block, float32."""
    wide = weight.to(torch.float32, copy=True)
    for rows, factors in zip(wide.split(block[0]), scale.float()):
        rows *= factors.repeat_interleave(block[1])[: wide.shape[1]]
    return wide


@torch.no_grad()
def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(e4m3 numbers, float32 scales): the largest number of each block becomes the largest that e4m3 has."""
    wide = weight.float()[None]
    largest = F.max_pool2d(wide.abs(), BLOCK, ceil_mode=True)[0]
    scale = torch.where(largest == 0, 1.0, largest / LARGEST)
    numbers = wide[0] / _spread(scale, weight.shape)
    return numbers.to(torch.float8_e4m3fn), scale


def _spread(scale: Tensor, shape: Sequence[int]) -> Tensor:
    """The scale of each number."""
    rows = scale.repeat_interleave(BLOCK[0], 0)[: shape[0]]
    return rows.repeat_interleave(BLOCK[1], 1)[:, : shape[1]]


def outgoing(tensors: Mapping[str, Outgoing]) -> dict[str, Outgoing]:
    """The same tensors, matrices that DeepSeek quantises as two: numbers and scales."""
    table = dict(tensors)
    for name in filter(_is_quantised, tensors):
        tensor = tensors[name]
        table[name] = _part(tensor, 0, torch.float8_e4m3fn, tensor.shape)
        table[name + SCALE] = _part(tensor, 1, torch.float32, blocks_of(tensor.shape))
    return table


@torch.no_grad()
def round_to(slots: Slots) -> None:
    """What FP8 makes of the numbers that it would be written for, in place."""
    for name in filter(_is_quantised, slots):
        numbers, scale = quantise(published(slots[name]))
        slots[name].copy_(multiply(numbers, scale, BLOCK).view(slots[name].shape))


def _is_quantised(name: str) -> bool:
    return name.endswith(QUANTISED) and not name.endswith(KEPT)


def _part(tensor: Outgoing, which: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Outgoing:
    return Outgoing(dtype, shape, lambda: quantise(tensor.make())[which])
