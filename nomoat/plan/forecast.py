"""What a recipe will take before it runs: per stage tokens, parameters, FLOPs, memory, time, energy and money.

FLOPs follow from the recipe; time is FLOPs over the shares of the peak that hardware.toml gives for such runs, and so an
estimate.  Models of less than a million parameters take longer than it says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nomoat.plan.budget import Line, estimate, machine, resolve
from nomoat.report.receipt import receipt_of
from nomoat.report.table import Table
from nomoat.run.directory import Run
from nomoat.run.ledger import duration, money, read_prices, short
from nomoat.stages.recipe import Recipe


@dataclass(frozen=True)
class Forecast:
    lines: tuple[Line, ...]
    device: str
    units: int
    currency: str
    source: str

    def table(self) -> Table:
        amount = lambda value, unit="": "" if value is None else short(value, unit)
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
    name, units, *_, rates = machine(recipe)
    prices = read_prices()
    source = (f"Estimated: {rates}; {prices.device(name).watts:g} W a unit, prices of {prices.date}; memory: weights, "
              "gradients, optimiser.") + (f" Cut to its budget: {recipe.fitted}." if recipe.fitted else "")  # fmt: skip
    return Forecast(estimate(recipe, only), name, units, prices.currency, source)


def against_plan(run: Run) -> Table:
    """What each stage took beside what its plan said, for stages that have begun; time on the clock."""
    recipe = resolve(run.recipe)
    spent = {row.stage: row for row in receipt_of(run).rows}
    ratio = lambda took, plan: f"{took / plan:.2f}" if plan and took else ""
    amount = lambda value: short(value) if value else ""
    pairs = [(spent[line.stage], line) for line in estimate(recipe) if line.stage in spent]
    rows = [(row.stage, amount(row.tokens), ratio(row.tokens, line.tokens), amount(row.flops_model),
             ratio(row.flops_model, line.flops), duration(row.seconds), duration(line.seconds),
             ratio(row.seconds, line.seconds)) for row, line in pairs]  # fmt: skip
    took, plan = (sum(pair[i].seconds for pair in pairs) for i in (0, 1))
    rows.append(("total", "", "", "", "", duration(took), duration(plan), ratio(took, plan)))
    header = ("stage", "tokens", "of plan", "model FLOPs", "of plan", "time", "planned", "of plan")
    return Table("Receipt and plan", header, tuple(rows), "Time on the clock, work done twice included.", total=True)
