"""What a recipe will take before it runs: per stage tokens, parameters, FLOPs, memory, time, energy and money.

FLOPs follow from the recipe; time is FLOPs over the share of the peak that hardware.toml gives for such runs, and so an
estimate.  Sampling, small models and everything that is not arithmetic take longer than it says.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nomoat.ledger import duration, money, read_prices, short
from nomoat.plan.cost import read_hardware
from nomoat.report.receipt import Table
from nomoat.stages.recipe import Recipe, module_of

CUDA_CLASS = "h100"  # what `device = "cuda"` is taken to be


@dataclass(frozen=True)
class Line:
    """One stage's estimate; None where a stage does not train or sample.  `others` is what else its plan says."""

    stage: str
    tokens: int | None
    parameters: int | None
    active: int | None
    flops: float | None
    memory_bytes: float | None
    seconds: float | None
    joules: float | None
    money: float | None
    others: dict[str, Any]


@dataclass(frozen=True)
class Forecast:
    lines: tuple[Line, ...]
    device: str
    units: int
    currency: str
    source: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> Table:
        amount = lambda value, unit="": "" if value is None else f"{short(value)}{unit}".strip()
        rows = [
            (x.stage, amount(x.tokens), amount(x.parameters), amount(x.flops), amount(x.memory_bytes, "B"),
             "" if x.seconds is None else duration(x.seconds), amount(x.joules, "J"),
             "" if x.money is None else money(x.money),
             ", ".join(f"{value} {key.replace('_', ' ')}" for key, value in x.others.items()))
            for x in (*self.lines, self.total())
        ]  # fmt: skip
        header = ("stage", "tokens", "parameters", "FLOPs", "memory", "time", "energy", self.currency, "and")
        title = f"Plan for {self.units} x {self.device}, estimated"
        return Table(title, header, tuple(rows), self.source, ("and",), total=True)

    def total(self) -> Line:
        most = max((x.memory_bytes or 0 for x in self.lines), default=0)
        sums = {k: sum(getattr(x, k) or 0 for x in self.lines) for k in ("tokens", "flops", "seconds", "joules", "money")}
        return Line("total", parameters=None, active=None, memory_bytes=most or None, others={}, **sums)


def forecast(recipe: Recipe, only: Sequence[str] = ()) -> Forecast:
    """The estimate of every stage of a recipe, or of those named in `only`; runs nothing."""
    hardware, prices = read_hardware(), read_prices()
    cpu = recipe.device == "cpu"
    name, units = ("cpu", recipe.threads) if cpu else (CUDA_CLASS, 1)
    device, price = hardware.devices[name], prices.device(name)
    mfu = hardware.mfu["cpu" if cpu else "moe-plain"]
    lines = []
    for config in recipe.stages:
        if only and config.name not in only:
            continue
        figures = dict(module_of(config.kind).plan(config, recipe))
        known = {key: figures.pop(key, None) for key in ("tokens", "parameters", "active", "flops", "memory_bytes")}
        seconds = joules = cost = None
        if known["flops"] is not None:
            seconds = known["flops"] / (device.flops_bf16 * units * mfu.value)
            joules = price.watts * units * seconds
            cost = prices.money(price, joules, seconds * units)
        lines.append(Line(config.name, **known, seconds=seconds, joules=joules, money=cost, others=figures))
    source = (f"Estimated: time at {100 * mfu.value:.0f} % of {device.name} ({mfu.source}), energy at "
              f"{price.watts:g} W a unit, prices of {prices.date}; memory: weights, gradients, optimiser.")  # fmt: skip
    return Forecast(tuple(lines), name, units, prices.currency, source)
