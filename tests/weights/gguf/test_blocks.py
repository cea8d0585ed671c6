"""Blocks to numbers and back: bit for bit what the package gguf computes."""

import numpy
import pytest
import torch

from nomoat.config import WeightsError
from nomoat.weights.gguf import blocks
from nomoat.weights.gguf.kinds import KINDS, NUMBERS

gguf = pytest.importorskip("gguf")
READ = (
    "F32",
    "F16",
    "BF16",
    "Q8_0",
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q2_K",
    "Q3_K",
    "IQ4_NL",
)
WRITTEN = ("F32", "F16", "BF16", "Q8_0", "Q4_0")


def random_blocks(kind, n=2048):
    """Random blocks whose float16 scales are finite."""
    raw = torch.randint(
        0, 256, (n, kind.n_bytes), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    if kind.n_values == 1:
        numbers = torch.randn(n, generator=torch.Generator().manual_seed(2))
        return numbers.to(blocks.PLAIN[kind.name]).view(torch.uint8)
    for at in range(1, kind.n_bytes, 2):
        raw[:, at] &= 0x3F
    return raw.flatten()


@pytest.mark.parametrize("name", READ)
def test_numbers_are_the_packages(name):
    kind = KINDS[NUMBERS[name]]
    raw = random_blocks(kind)
    found = blocks.dequantise(raw, kind, (len(raw) // kind.n_bytes, kind.n_values)).float()
    theirs = gguf.dequantize(raw.numpy().reshape(16, -1), gguf.GGMLQuantizationType[name])
    assert torch.equal(found.flatten(), torch.from_numpy(numpy.array(theirs)).flatten())


@pytest.mark.parametrize("name", WRITTEN)
def test_bytes_are_the_packages_and_come_back(name):
    kind = KINDS[NUMBERS[name]]
    values = torch.randn(64, 96, generator=torch.Generator().manual_seed(3))
    raw = blocks.quantise(values, kind)
    theirs = gguf.quantize(values.numpy(), gguf.GGMLQuantizationType[name])
    assert raw.numpy().tobytes() == theirs.tobytes()
    read = blocks.dequantise(raw, kind, (64, 96)).float()
    assert (read - values).abs().max() <= {"F32": 0, "F16": 2e-3, "BF16": 2e-2, "Q8_0": 2e-2, "Q4_0": 0.5}[
        name
    ]


def test_a_kind_that_nobody_computes_is_named():
    kind = KINDS[NUMBERS["Q8_K"]]
    with pytest.raises(WeightsError, match="Q8_K: .*not yet implemented"):
        blocks.dequantise(random_blocks(kind), kind, (2048, 256))
    with pytest.raises(WeightsError, match="Q4_0: .*shape"):
        blocks.quantise(torch.ones(2, 33), KINDS[NUMBERS["Q4_0"]])
