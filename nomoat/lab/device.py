"""What the processor and the GPU do, side by side: matrix products, memory, training, joules.

The places take turns, so that a machine that drifts slows all alike.  An absent GPU stands there by its data
sheet.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from nomoat.config import parse
from nomoat.data.packing import Batch
from nomoat.files import shipped
from nomoat.lab.series import Json
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Transformer
from nomoat.plan.hardware import read_hardware
from nomoat.report.table import Table
from nomoat.run.energy import Energy
from nomoat.run.ledger import read_prices, short
from nomoat.stages.pipeline import device_class
from nomoat.stats import grouped
from nomoat.train.objective import ObjectiveConfig, gradient
from nomoat.train.optim import OptimConfig, Optimizer

SHEET = "data sheet, not measured"
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
WARM_CALLS = 2  # the faster of which says how many calls fill a slice


@dataclass(frozen=True)
class Reading:
    """One thing in one place: median, lowest, highest of the rounds; how many `times` better than in the
    first place."""

    what: str
    unit: str
    place: str
    value: float
    low: float
    high: float
    times: float
    source: str


@dataclass(frozen=True)
class Place:
    """Some threads of the processor, or a GPU."""

    name: str
    device: torch.device
    units: int


@dataclass(frozen=True)
class Work:
    """Something to measure: what one call does, by unit, and the call."""

    amounts: dict[str, float]
    call: Callable[[], Any]


@dataclass(frozen=True)
class Cost:
    """Of one call."""

    seconds: float
    joules: float
    joules_source: str


def measure(threads: int | None = None, *, rounds: int = 5, table: Json | None = None) -> list[Reading]:
    """One thread, `threads` (torch's own number by default), the GPU and absent GPUs; by device.toml or its
    like."""
    before, table = torch.get_num_threads(), table or shipped(__file__)
    places = places_with(threads or before)
    works = {place.device: works_on(place.device, table) for place in places}
    readings = []
    try:
        for what in works[places[0].device]:
            jobs = [(place, works[place.device][what]) for place in places]
            readings += read(what, jobs, table["seconds"], rounds)
    finally:
        torch.set_num_threads(before)
    return [*readings, *sheets(readings, {device_class(device) for device in works})]


def places_with(threads: int) -> list[Place]:
    places = [Place("1 thread", torch.device("cpu"), 1)]
    if threads > 1:
        places.append(Place(f"{threads} threads", torch.device("cpu"), threads))
    if torch.cuda.is_available():
        places.append(Place(torch.cuda.get_device_name(), torch.device("cuda"), 1))
    return places


def works_on(device: torch.device, table: Json) -> dict[str, Work]:
    """By the name of its row.  A triad is STREAM's: two arrays read, one written."""
    works = {}
    for name, sides in table["products"].items():
        m, k, n = sides[device.type]
        for words, dtype in DTYPES.items():
            works[f"product {name}, {words}"] = product(m, k, n, device, dtype)
    n_numbers = table["array_bytes"] // 4
    works["memory, triad"] = triad(n_numbers, device)
    has_gpu = torch.cuda.is_available()
    for name, model in table["models"].items():
        if has_gpu or not model.get("beside_gpu"):
            works[f"training, {name} model, bf16"] = training(model, device)
    return works


def triad(n: int, device: torch.device) -> Work:
    a, b, c = (torch.ones(n, device=device) for _ in range(3))
    return Work({"B": 12.0 * n}, partial(torch.add, a, b, alpha=3.0, out=c))


def product(m: int, k: int, n: int, device: torch.device, dtype: torch.dtype) -> Work:
    a = torch.randn(m, k, device=device, dtype=dtype)
    b = torch.randn(k, n, device=device, dtype=dtype)
    return Work({"FLOP": 2.0 * m * k * n}, partial(torch.mm, a, b, out=a.new_empty(m, n)))


def training(model: Json, device: torch.device) -> Work:
    """Whole steps on random tokens: forward, backward, optimiser, bias balancing."""
    spec = parse(Spec, model["spec"], "spec")
    kernels = parse(Kernels, model.get("kernels", {}), "kernels")
    net = Transformer(spec, kernels).initialise(0).to(device)
    for parameter in net.parameters():  # routing biases stay float32
        parameter.data = parameter.data.bfloat16()
    optimizer = Optimizer(net, parse(OptimConfig, model["optim"], "optim"))
    ids_BT = torch.randint(spec.vocab_size, (model["rows"][device.type], spec.context), device=device)
    batch = Batch(ids_BT, ids_BT.roll(-1, 1), torch.zeros_like(ids_BT, dtype=torch.int32))

    def step() -> float:
        computed = gradient(net, batch, ObjectiveConfig())
        optimizer.step(1.0, float(optimizer.grad_norm()))
        computed.after()
        return computed.flops_executed + optimizer.flops()

    return Work({"token": float(ids_BT.numel()), "FLOP": step()}, step)


def spend(place: Place, call: Callable[[], Any], n_calls: int = 1) -> Cost:
    torch.set_num_threads(place.units)
    on_gpu = place.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
    meter = Energy(device_class(place.device), units=place.units)
    start = time.perf_counter()
    for _ in range(n_calls):
        call()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    joules, source = meter.read()
    return Cost(seconds / n_calls, joules / n_calls, source)


def read(what: str, jobs: Sequence[tuple[Place, Work]], seconds: float, rounds: int) -> Iterator[Reading]:
    """One row in every place: each unit's rate, and how much of the first a joule buys."""
    n_calls = [calls_that_fill(seconds, place, work) for place, work in jobs]
    taken = []
    for _ in range(rounds):
        taken.append([spend(place, work.call, n) for (place, work), n in zip(jobs, n_calls)])
    first = {}
    for (place, work), spent in zip(jobs, zip(*taken)):
        for unit, source, values in rates(work, spent):
            value = statistics.median(values)
            yield Reading(
                what=what,
                unit=unit,
                place=place.name,
                value=value,
                low=min(values),
                high=max(values),
                times=value / first.setdefault(unit, value),
                source=source,
            )


def calls_that_fill(seconds: float, place: Place, work: Work) -> int:
    fastest = min(spend(place, work.call).seconds for _ in range(WARM_CALLS))
    return max(1, round(seconds / fastest))


def rates(work: Work, costs: Sequence[Cost]) -> Iterator[tuple[str, str, list[float]]]:
    """(unit, source, a value of each round)."""
    for unit, amount in work.amounts.items():
        yield f"{unit}/s", "measured", [amount / cost.seconds for cost in costs]
    unit, amount = next(iter(work.amounts.items()))
    yield f"{unit}/J", costs[-1].joules_source, [amount / cost.joules for cost in costs]


def sheets(measured: Sequence[Reading], present: set[str]) -> Iterator[Reading]:
    """The cards of hardware.toml that are not here: the vendor's peak in bf16 over what the first place
    reached."""
    prices, first = read_prices(), measured[0].place
    rows = [r for r in measured if r.place == first and ("square" in r.what or "memory" in r.what)]
    for name, card in read_hardware().devices.items():
        if name in present:
            continue
        for r in rows:
            value = card.bytes_per_second if r.unit.startswith("B") else card.flops_bf16
            if r.unit.endswith("J"):
                value /= prices.device(name).watts
            source = f"{SHEET}: {card.source}"
            yield Reading(r.what, r.unit, name, value, value, value, value / r.value, source)


def tables(readings: Sequence[Reading]) -> list[Table]:
    """What was measured, a column for each place; what data sheets say of the absent cards."""
    sources = {f"{r.source} ({r.place})" for r in readings if r.unit == "token/J"}
    joules = ", ".join(sorted(sources))
    note = f"In brackets: times better than {readings[0].place}. Joules: {joules}."
    absent = [r for r in readings if r.source.startswith(SHEET)]
    measured = [r for r in readings if r not in absent]
    shown = [side_by_side("Measured", measured, note)]
    if absent:
        title = f"{SHEET.capitalize()}: peak in bf16, watts of prices.toml"
        shown.append(side_by_side(title, absent, note))
    return shown


def side_by_side(title: str, readings: Sequence[Reading], note: str) -> Table:
    cells = grouped(((r.what, r.unit), reading_cell(r)) for r in readings)
    places = dict.fromkeys(r.place for r in readings)
    return Table(title, ("what", *places), [(what, *row) for (what, _), row in cells.items()], note)


def reading_cell(r: Reading) -> str:
    value = f"{1 / r.value:.2g} J/token" if r.unit == "token/J" else short(r.value, r.unit)
    times = f"{r.times:.2g}" if r.times < 10 else f"{r.times:,.0f}"
    return f"{value} ({times})"
