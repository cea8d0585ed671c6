"""What a process asks of its libraries can be asked anywhere."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nomoat.parallel.process import fast_bf16, keep_few_shapes, keep_freed_memory

SHAPES = """
import torch
from nomoat.parallel.process import keep_few_shapes, release_memory

keep_few_shapes()
torch.set_num_threads(1)
x, weights = torch.randn(700, 576).bfloat16(), [torch.randn(n, 576).bfloat16() for n in (960, 576, 3072)]
held = []
for rows in range(100, 700):
    for weight in weights:
        x[:rows] @ weight.T
    if rows in (200, 699):
        release_memory()
        (line,) = [line for line in open("/proc/self/status") if line.startswith("VmRSS")]
        held.append(int(line.split()[1]))
print(held[1] - held[0])
"""


def test_freed_memory_can_be_asked_to_stay():
    keep_freed_memory()


@pytest.mark.check
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by Linux")
def test_products_of_ever_new_shapes_take_no_more_memory():
    grown = subprocess.run([sys.executable, "-c", SHAPES], check=True, capture_output=True, text=True).stdout
    assert int(grown) < 100_000  # kB: 900,000 without the bound, where bf16 is multiplied by tiles


def test_what_the_environment_says_of_shapes_stands(monkeypatch):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "")  # which is put back then
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    keep_few_shapes()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7" and os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "256"


@pytest.mark.parametrize(("device", "probe", "fast"), [
    ("cuda", None, True), ("cpu", lambda: True, True), ("cpu", lambda: False, False), ("cpu", None, False),
])  # fmt: skip
def test_bf16_is_fast_where_the_processor_multiplies_it(monkeypatch, device, probe, fast):
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(_is_mkldnn_bf16_supported=probe))
    assert fast_bf16(torch.device(device)) is fast
