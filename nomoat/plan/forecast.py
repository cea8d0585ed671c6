"""What each stage of a recipe will take: tokens, parameters, FLOPs, memory, time, energy and money.

FLOPs follow from the recipe; time is FLOPs at the rates that a probe has measured here (probe.py), or else
at the shares of the peak that hardware.toml gives for such runs: of another machine, and of models of more
than a million parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nomoat.plan.budget import Line, estimate, looked, resolve
from nomoat.plan.choice import Laid, choose
from nomoat.plan.hardware import read_hardware
from nomoat.plan.machine import Machine, machine_of, machine_of_run
from nomoat.plan.rates import total
from nomoat.plan.replay import Endured, endured
from nomoat.report.receipt import receipt_of
from nomoat.report.table import Table
from nomoat.run.directory import Run
from nomoat.run.ledger import Row, duration, money, read_prices, short
from nomoat.stages.recipe import Recipe

MEMORY = {False: "memory: weights, gradients, optimiser", True: "memory: all that the process holds"}
HEADER = ("stage", "tokens", "parameters", "FLOPs", "memory", "time", "interval", "energy")
SUMMED = ("tokens", "flops", "seconds", "joules", "money")


@dataclass(frozen=True)
class Forecast:
    lines: tuple[Line, ...]
    device: str
    units: int
    currency: str
    source: str
    faults: Endured | None = None  # not in what the lines say
    mesh: Laid | None = None  # of the ranks; None for one

    def table(self) -> Table:
        header = (*HEADER, self.currency, "and")
        rows = [line_cells(line) for line in (*self.lines, self.total())]
        title = f"Plan for {self.units} x {self.device}, estimated"
        return Table(title, header, rows, self.note(), ("and",), total=True)

    def note(self) -> str:
        words = [self.source]
        if self.mesh:
            words.append(f"Ranks share by [mesh] {self.mesh.says()}.")
        if self.faults:
            words.append(self.faults.says())
        return " ".join(words)

    def total(self) -> Line:
        most = max((line.memory_bytes or 0 for line in self.lines), default=0)
        sums = {key: sum(getattr(line, key) or 0 for line in self.lines) for key in SUMMED}
        parts = tuple(part for line in self.lines for part in line.parts)
        _, low, high = total(parts)
        sums |= {"low_seconds": low, "high_seconds": high, "parts": parts}
        return Line("total", parameters=None, active=None, memory_bytes=most or None, others={}, **sums)


def line_cells(line: Line) -> tuple[str, ...]:
    return (
        line.stage,
        _short(line.tokens),
        _short(line.parameters),
        _short(line.flops),
        _short(line.memory_bytes, "B"),
        duration(line.seconds),
        f"{duration(line.low_seconds)} to {duration(line.high_seconds)}",
        short(line.joules, "J"),
        money(line.money),
        ", ".join(f"{value} {key.replace('_', ' ')}" for key, value in line.others.items()),
    )


def _short(value: float | None, unit: str = "") -> str:
    return "" if value is None else short(value, unit)


def forecast(recipe: Recipe, only: Sequence[str] = (), machine: Machine | None = None) -> Forecast:
    """The estimate of every stage of a recipe, or of those named in `only`, by default where the recipe says
    that it runs; runs nothing.
    """
    machine, prices = machine or machine_of(recipe), read_prices()
    source = (
        f"Estimated: {machine.source}; {prices.device(machine.device).watts:g} W a unit, "
        f"prices of {prices.date}; "
        f"{MEMORY[machine.rates is not None]}; times within the interval in nine cases of ten."
    )
    lines = estimate(recipe, only, machine)
    largest = max((line.memory_bytes or 0 for line in lines), default=0)
    device = read_hardware().device(machine.device)
    if largest > device.memory_bytes:
        source += (
            f" It doesn't fit: {short(largest, 'B')} in {short(device.memory_bytes, 'B')} of {device.name}."
        )
    if recipe.fitted:
        source += f" Cut to its budget: {recipe.fitted}."
    outside = [line.stage for line in lines if getattr(recipe.stage(line.stage), "sampler", None)]
    if outside:
        source += f" What a server samples for {', '.join(outside)} is planned as if it were sampled here."
    cast = Forecast(lines, machine.device, machine.units, prices.currency, source)
    if machine.device == "cpu" or machine.units == 1:
        return cast
    return replace(cast, faults=_faults(cast), mesh=choose(recipe, machine.units, machine.device))


def _faults(cast: Forecast) -> Endured | None:
    """Of all stages, one after the other, as if each trained the largest model."""
    n_params = max((line.parameters or 0 for line in cast.lines), default=0)
    return endured(n_params, cast.units, cast.total().seconds)


HEADER_AGAINST = (
    "stage", "tokens", "of plan", "model FLOPs", "of plan", "time", "planned", "of plan", "memory", "of plan",
)  # fmt: skip


def against_plan(run: Run) -> Table:
    """What each stage took beside what its plan said, for stages that have begun: time on the clock, and the
    most memory that the process held, where that was measured."""
    spent = {row.stage: row for row in receipt_of(run).rows}
    peaks = {event["stage"]: event.get("peak_bytes") for event in run.events("stage_end")}
    recipe = resolve(run.recipe)
    machine = machine_of_run(recipe, run)
    known = looked(run)
    rows, seconds, planned = [], 0.0, 0.0
    for line in estimate(recipe, machine=machine):
        line = replace(line, seconds=known.get(line.stage, line.seconds))
        if row := spent.get(line.stage):
            rows.append(stage_cells(row, line, peaks.get(line.stage), whole=machine.rates is not None))
            seconds += row.seconds
            planned += line.seconds
    times = duration(seconds), duration(planned), _ratio(seconds, planned)
    rows.append(("total", "", "", "", "", *times, "", ""))
    note = "Time on the clock, work done twice included; memory: the most that the process held."
    return Table("Receipt and plan", HEADER_AGAINST, rows, note, total=True)


def stage_cells(row: Row, line: Line, peak: int | None, *, whole: bool) -> tuple[str, ...]:
    """`whole`: the plan's memory is that of the whole process."""
    return (
        row.stage,
        short(row.tokens) if row.tokens else "",
        _ratio(row.tokens, line.tokens),
        short(row.flops_model) if row.flops_model else "",
        _ratio(row.flops_model, line.flops),
        duration(row.seconds),
        duration(line.seconds),
        _ratio(row.seconds, line.seconds),
        _short(peak, "B"),
        _ratio(peak, line.memory_bytes) if whole else "",
    )


def _ratio(took: float | None, planned: float | None) -> str:
    return f"{took / planned:.2f}" if planned and took else ""
