"""What the processor and the GPU do, side by side: matrix products, memory, training, joules.

The places take turns, so that a machine that drifts slows all alike.  An absent GPU stands there by its data sheet.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from nomoat.config import parse
from nomoat.data.packing import Batch
from nomoat.files import shipped
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Transformer
from nomoat.plan.cost import read_hardware
from nomoat.report.table import Table
from nomoat.run.energy import Energy
from nomoat.run.ledger import read_prices, short
from nomoat.stages.pipeline import device_class
from nomoat.train.objective import ObjectiveConfig, gradient
from nomoat.train.optim import OptimConfig, Optimizer

SHEET = "data sheet, not measured"


@dataclass(frozen=True)
class Reading:
    """One thing in one place: median, lowest, highest of the rounds; how many `times` better than in the first place."""

    what: str
    unit: str
    place: str
    value: float
    low: float
    high: float
    times: float
    source: str


def measure(threads: int | None = None, *, rounds: int = 5, table: Mapping[str, Any] | None = None) -> list[Reading]:
    """One thread, `threads` (torch's own number by default), the GPU and absent GPUs; by device.toml or its like."""
    before, table = torch.get_num_threads(), table or shipped(__file__)
    places = {f"{n} thread{'s' * (n > 1)}": (torch.device("cpu"), n) for n in sorted({1, threads or before})}
    if torch.cuda.is_available():
        places[torch.cuda.get_device_name()] = (torch.device("cuda"), 1)
    works = {device: _works(table, device) for device, _ in places.values()}
    try:
        found = [r for what in next(iter(works.values())) for r in _read(what, works, places, table["seconds"], rounds)]
    finally:
        torch.set_num_threads(before)
    return [*found, *_sheets(found, {device_class(device) for device in works})]


def _works(table: Mapping[str, Any], device: torch.device) -> dict[str, tuple[dict, Callable]]:
    """Each row's name -> (what a call does, by unit; the call).  A triad is STREAM's: two arrays read, one written."""
    works = {}
    for name, sides in table["products"].items():
        m, k, n = sides[device.type]
        for words, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
            a, b = torch.randn(m, k, device=device, dtype=dtype), torch.randn(k, n, device=device, dtype=dtype)
            works[f"product {name}, {words}"] = {"FLOP": 2.0 * m * k * n}, partial(torch.mm, a, b, out=a.new_empty(m, n))
    a, b, c = (torch.ones(table["array_bytes"] // 4, device=device) for _ in range(3))
    works["memory, triad"] = {"B": 12.0 * len(a)}, partial(torch.add, a, b, alpha=3.0, out=c)
    for name, model in table["models"].items():
        if torch.cuda.is_available() or not model.get("beside_gpu"):
            works[f"training, {name} model, bf16"] = _training(model, device)
    return works


def _training(model: Mapping[str, Any], device: torch.device) -> tuple[dict, Callable]:
    """Whole steps on random tokens: forward, backward, optimiser, bias balancing."""
    net = Transformer(spec := parse(Spec, model["spec"], "spec"), parse(Kernels, model.get("kernels", {}), "kernels")).initialise(0).to(device)
    for parameter in net.parameters():  # routing biases stay float32
        parameter.data = parameter.data.bfloat16()
    optimizer = Optimizer(net, parse(OptimConfig, model["optim"], "optim"))
    ids_BT = torch.randint(spec.vocab_size, (model["rows"][device.type], spec.context), device=device)
    batch = Batch(ids_BT, ids_BT.roll(-1, 1), torch.zeros_like(ids_BT, dtype=torch.int32))

    def step() -> float:
        found = gradient(net, batch, ObjectiveConfig())
        optimizer.step(1.0, float(optimizer.grad_norm()))
        found.after()
        return found.flops_executed + optimizer.flops()

    return {"token": float(ids_BT.numel()), "FLOP": step()}, step


def _spend(device: torch.device, units: int, call: Callable[[], Any], n: int = 1) -> tuple[float, float, str]:
    """(seconds, joules, their source) of one of `n` calls."""
    torch.set_num_threads(units)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    meter, start = Energy(device_class(device), units=units), time.perf_counter()
    for _ in range(n):
        call()
    wait()
    return (time.perf_counter() - start) / n, (spent := meter.read())[0] / n, spent[1]


def _read(what: str, works: Mapping, places: Mapping, seconds: float, rounds: int) -> Iterator[Reading]:
    """One row in every place: each unit's rate, and how much of the first a joule buys."""
    jobs = {name: (device, units, works[device][what][1]) for name, (device, units) in places.items()}
    calls = {name: max(1, round(seconds / min(_spend(*job)[0] for _ in range(2)))) for name, job in jobs.items()}
    costs = [{name: _spend(*job, calls[name]) for name, job in jobs.items()} for _ in range(rounds)]
    first: dict[str, float] = {}
    for name, (device, _) in places.items():
        rates = [(f"{unit}/s", n, 0, "measured") for unit, n in works[device][what][0].items()]
        for unit, n, i, source in (*rates, (rates[0][0].replace("/s", "/J"), rates[0][1], 1, costs[-1][name][2])):
            values = [n / c[name][i] for c in costs]
            value = statistics.median(values)
            times = value / first.setdefault(unit, value)
            yield Reading(what, unit, name, value, min(values), max(values), times, source)


def _sheets(measured: Sequence[Reading], present: set[str]) -> Iterator[Reading]:
    """The cards of hardware.toml that are not here: the vendor's peak in bf16 over what the first place reached."""
    prices = read_prices()
    for name, card in read_hardware().devices.items():
        for r in measured if name not in present else ():
            if r.place == measured[0].place and ("square" in r.what or "memory" in r.what):
                value = card.bytes_per_second if r.unit.startswith("B") else card.flops_bf16
                value /= prices.device(name).watts if r.unit.endswith("J") else 1
                yield Reading(r.what, r.unit, name, *3 * [value], value / r.value, f"{SHEET}: {card.source}")


def tables(readings: Sequence[Reading]) -> list[Table]:
    """What was measured, a column for each place; what data sheets say of the absent cards."""
    rows: dict[bool, dict[tuple[str, str], dict[str, str]]] = {False: {}, True: {}}
    for r in readings:
        value = f"{1 / r.value:.2g} J/token" if r.unit == "token/J" else short(r.value, r.unit)
        times = f"{r.times:.2g}" if r.times < 10 else f"{r.times:,.0f}"
        rows[r.source.startswith(SHEET)].setdefault((r.what, r.unit), {})[r.place] = f"{value} ({times})"
    sources = sorted({f"{r.source} ({r.place})" for r in readings if r.unit == "token/J"})
    note = f"In brackets: times better than {readings[0].place}. Joules: {', '.join(sources)}."
    titles = {False: "Measured", True: f"{SHEET.capitalize()}: peak in bf16, watts of prices.toml"}
    cells = lambda found: tuple((what, *row.values()) for (what, _), row in found.items())
    return [Table(titles[k], ("what", *next(iter(r.values()))), cells(r), note) for k, r in rows.items() if r]
