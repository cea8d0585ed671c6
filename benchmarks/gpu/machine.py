"""The machine, and what its joules are worth: the meter's against the vendor's watts times the clock."""

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Iterator

import torch

from benchmarks.common import processor
from benchmarks.gpu.measure import Place, Result, spend
from nomoat.run.energy import Energy
from nomoat.run.ledger import read_prices

PACKAGES = ("torch", "numpy", "safetensors", "tokenizers", "pydantic", "nvidia-ml-py", "transformers")
QUERY = "name,driver_version,memory.total,power.limit,clocks.max.sm"


def environment(place: Place) -> Iterator[Result]:
    """What a figure needs beside it."""
    versions = [f"{name} {version(name)}" for name in PACKAGES]
    yield Result(
        "environment", "processor", processor(), note=f"{os.cpu_count()} cores, {platform.release()}"
    )
    yield Result("environment", "python", platform.python_version(), note=", ".join(versions))
    if not place.on_card:
        yield Result("environment", "device", str(place.device), note="no card is used")
        return
    card = torch.cuda.get_device_properties(place.device)
    asked = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    smi = subprocess.run(asked, capture_output=True, text=True)
    yield Result("environment", "card", card.name, note=smi.stdout.strip() or smi.stderr.strip())
    yield Result("environment", "card memory", card.total_memory / 2**30, "GiB", f"CUDA {torch.version.cuda}")
    yield Result("environment", "class", place.device_class() or "not in hardware.toml")


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def energy(place: Place) -> Iterator[Result]:
    """Joules at rest and under matrix products, beside what is charged where nothing can be measured."""
    meter, start = Energy(place.device_class() or "h100"), time.perf_counter()
    time.sleep(0.1 if place.dry else min(place.seconds, 3.0))
    joules, source = meter.read()
    yield Result("energy", "at rest", joules / (time.perf_counter() - start), "W", source)
    n = 256 if place.dry else 8192
    a, b = (torch.randn(n, n, device=place.device).bfloat16() for _ in range(2))
    out = torch.empty_like(a)
    batch = 1 if place.dry else 50

    def products() -> None:
        for _ in range(batch):
            torch.mm(a, b, out=out)

    products()
    spent = spend(place, products)
    flops = 2 * n**3 * batch * len(spent.seconds)
    yield Result("energy", f"bf16 products of {n}", spent.watts, "W", spent.source)
    yield Result(
        "energy",
        "their speed",
        flops / spent.total / 1e12,
        "TFLOP/s",
        share_of_peak(place, flops / spent.total),
    )
    yield Result("energy", "their joules", spent.joules / (flops / 1e12), "J/TFLOP", spent.source)
    declared = read_prices().device(place.device_class() or "h100").watts
    note = f"{spent.joules:.1f} J in {spent.total:.2f} s, {declared:.0f} W declared in prices.toml"
    yield Result("energy", "measured over declared", spent.joules / (declared * spent.total), "", note)


def share_of_peak(place: Place, flops_per_second: float) -> str:
    sheet = place.sheet()
    if sheet is None:
        return "peak unknown"
    return f"{100 * flops_per_second / sheet['flops_bf16']:.1f} % of the data sheet's peak"
