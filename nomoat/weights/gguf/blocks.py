"""Blocks of a GGUF file to numbers and back, bit for bit as the `gguf` package has them.

    Q8_0  d, 32 bytes q:                    d q
    Q4_0  d, 32 nibbles q:                  d (q - 8)
    Q4_1  d, m, 32 nibbles q:               d q + m
    Q5_0  d, 32 high bits, 32 nibbles:      d (q - 16)

d and m are float16; the low nibbles of a block's bytes are its first half.  A product of d and q has at most
19 bits, so that float32 holds it exactly.  All other kinds are left to the package.
"""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy
import torch
from torch import Tensor

from nomoat.config import WeightsError
from nomoat.weights.gguf.kinds import NUMBERS, Kind

Decoder = Callable[[Tensor, Tensor], None]  # blocks (n, bytes) into values (n, numbers)
PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
LOW_HALVES = 0x0F0F0F0F0F0F0F0F
CHUNK = 1 << 10  # blocks at a time: few, so that no call is parted among threads, which takes longer
PACKAGE_CHUNK = 1 << 14


def dequantise(raw: Tensor, kind: Kind, shape: tuple[int, ...]) -> Tensor:
    """The tensor in the bytes `raw` (uint8); float32, or the file's own type where it is plain."""
    if kind.name in PLAIN:
        return raw.view(PLAIN[kind.name]).view(shape)
    values = torch.empty(len(raw) // kind.n_bytes, kind.n_values)
    decode(raw, kind, values)
    return values.view(shape)


def decode(raw: Tensor, kind: Kind, values: Tensor) -> None:
    """Blocks in the bytes `raw` into `values` (blocks, numbers of a block), float32."""
    ours = OURS.get(kind.name)
    decoder, chunk = (ours, CHUNK) if ours else (_by_package(kind), PACKAGE_CHUNK)
    for blocks_part, values_part in zip(raw.view(-1, kind.n_bytes).split(chunk), values.split(chunk)):
        decoder(blocks_part, values_part)


def _q8_0(blocks: Tensor, values: Tensor) -> None:
    values.copy_(blocks[:, 2:].view(torch.int8)).mul_(_half(blocks, 0))


def _q4_0(blocks: Tensor, values: Tensor) -> None:
    _nibbles(blocks[:, 2:], values).sub_(8).mul_(_half(blocks, 0))


def _q4_1(blocks: Tensor, values: Tensor) -> None:
    _nibbles(blocks[:, 4:], values).mul_(_half(blocks, 0)).add_(_half(blocks, 2))


def _q5_0(blocks: Tensor, values: Tensor) -> None:
    bit = torch.arange(8, dtype=torch.uint8)
    high = (blocks[:, 2:6, None] >> bit & 1).flatten(1) * 16
    _nibbles(blocks[:, 6:], values).add_(high).sub_(16).mul_(_half(blocks, 0))


def _nibbles(packed: Tensor, values: Tensor) -> Tensor:
    """The low halves of 16 bytes, then their high halves; eight bytes at once."""
    eight = packed.contiguous().view(torch.int64)
    low, high = eight & LOW_HALVES, eight >> 4 & LOW_HALVES
    return values.copy_(torch.cat((low, high), 1).view(torch.uint8))


def _half(blocks: Tensor, at: int) -> Tensor:
    """The float16 at this byte of every block, as float32: (n, 1)."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def quantise(values: Tensor, kind: Kind) -> Tensor:
    """The bytes (uint8) of a tensor in blocks of this kind, as llama.cpp writes them; the width must fit."""
    if kind.name in PLAIN:
        return values.to(PLAIN[kind.name]).contiguous().flatten().view(torch.uint8)
    quantize, number = _of_package("quantize", kind)
    with _errors_named(kind):
        return torch.from_numpy(quantize(values.float().contiguous().numpy(), number)).flatten()


def _by_package(kind: Kind) -> Decoder:
    dequantize, number = _of_package("dequantize", kind)

    def decoder(blocks: Tensor, values: Tensor) -> None:
        with _errors_named(kind):
            values.copy_(torch.from_numpy(dequantize(blocks.view(1, -1).numpy(), number)).view_as(values))

    return decoder


def _of_package(function: str, kind: Kind) -> tuple[Callable[..., numpy.ndarray], int]:
    constants = package("constants")
    return getattr(package("quants"), function), constants.GGMLQuantizationType(NUMBERS[kind.name])


@contextlib.contextmanager
def _errors_named(kind: Kind) -> Iterator[None]:
    """WeightsError for what the package can't; numbers that overflow are those of the file."""
    try:
        with numpy.errstate(all="ignore"):
            yield
    except (NotImplementedError, package("quants").QuantError) as error:
        what_to_do = "expected a kind that the package gguf computes, in rows of whole blocks; convert it"
        raise WeightsError(f"{kind.name}: {error}; {what_to_do}") from None


def package(module: str) -> ModuleType:
    """A module of the optional package gguf."""
    try:
        return importlib.import_module(f"gguf.{module}")
    except ModuleNotFoundError:
        raise WeightsError(
            "the package gguf is not installed; expected it for this kind of block; pip install gguf"
        ) from None


OURS: dict[str, Decoder] = {
    "Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0,
}  # fmt: skip
