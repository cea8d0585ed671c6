"""What a recipe will take, and recipes that are cut to a budget of time, energy or money.

A stage's `plan` tells its model FLOPs as the receipt will count them and, for the clock, the kinds of work
of rates.py: FLOPs `trained` (executed, in bf16's terms), `sampled`, `learned` and `scored`, and seconds of
the `host`.  A probe says how long a FLOP of each takes here (probe.py).  Without one, training goes at a
share of the peak, sampling at another, and what is learned or scored, many tokens at once, twice as fast.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nomoat.config import C, ConfigError, JsonObject, look_up, parse
from nomoat.files import shipped
from nomoat.model import counts
from nomoat.model.spec import Spec
from nomoat.plan.machine import Machine, Part, machine_of, machine_of_run
from nomoat.plan.rates import KINDS, total
from nomoat.run.directory import Run
from nomoat.run.ledger import Event, duration, read_prices, receipt
from nomoat.run.stop import Stop
from nomoat.stages.recipe import Recipe, StageConfig
from nomoat.stages.recipe import resolve as recipe_of

AMOUNT = re.compile(r"\s*([0-9.]+(?:e\+[0-9]+)?)\s*([A-Za-z]+)\s*")
KEPT_BACK = 0.1  # share of a budget that is not planned for: estimates err
MOST_HEADS = 16  # times those of the recipe
BISECTIONS = 16
PARTS_OF_STEPS = ("policy_steps", "ramp_steps")


@dataclass(frozen=True)
class Line:
    """One stage's estimate; None where it does not train or sample.  `others`: what else its plan says.

    It takes between `low_seconds` and `high_seconds` in nine cases of ten.  `memory_bytes`: what the process
    will hold where a probe has measured that, else weights, gradients and optimiser.
    """

    stage: str
    tokens: int | None
    parameters: int | None
    active: int | None
    flops: float | None
    memory_bytes: float | None
    seconds: float
    joules: float
    money: float
    others: JsonObject
    low_seconds: float = 0.0
    high_seconds: float = 0.0
    parts: tuple[Part, ...] = ()


def looked(run: Run) -> dict[str, float]:
    """The seconds that the look of a taught run gave each stage (lab/teach.py); of another, none."""
    return {stage: s for look in run.events("look") for stage, s in look.get("planned_seconds", {}).items()}


def estimate(
    recipe: Recipe, only: Sequence[str] = (), machine: Machine | None = None
) -> tuple[Line, ...]:
    """The estimate of every stage of a recipe, or of those named in `only`; runs nothing."""
    machine = machine or machine_of(recipe)
    chosen = [config for config in recipe.stages if not only or config.name in only]
    return tuple(_line(config, recipe, machine) for config in chosen)


def _line(config: StageConfig, recipe: Recipe, machine: Machine) -> Line:
    plan = dict(recipe.plan(config))
    parts = tuple(machine.part(config.name, kind, plan.pop(kind)) for kind in KINDS if kind in plan)
    seconds, low, high = total(parts)
    memory_bytes = plan.pop("memory_bytes", None)
    host_bytes = plan.pop("host_bytes", 0)
    if machine.rates:
        memory_bytes = machine.rates.holds(config.name, memory_bytes or 0, host_bytes)
    prices = read_prices()
    price = prices.device(machine.device)
    joules = price.watts * machine.units * seconds
    return Line(
        stage=config.name,
        tokens=plan.pop("tokens", None),
        parameters=plan.pop("parameters", None),
        active=plan.pop("active", None),
        flops=plan.pop("flops", None),
        memory_bytes=memory_bytes,
        seconds=seconds,
        joules=joules,
        money=prices.money(price, joules, seconds * machine.units),
        others=plan,
        low_seconds=low,
        high_seconds=high,
        parts=parts,
    )


def needed(recipe: Recipe, what: str, machine: Machine | None = None) -> float:
    """Seconds, joules or money that the whole recipe is estimated to take."""
    return sum(getattr(line, what) for line in estimate(recipe, machine=machine))


class Amount(NamedTuple):
    """`what` is "seconds", "joules" or "money", in the currency of prices.toml."""

    what: str
    value: float


def amount(text: str) -> Amount:
    """The amount that a budget names, such as "10 min", "1 kWh" or "5 EUR"."""
    currency = read_prices().currency
    match = AMOUNT.fullmatch(text)
    if match is None or match[1].count(".") > 1 or match[1] == "." or float(match[1]) <= 0:
        raise ConfigError(
            f'budget "{text}"; expected an amount and a unit, such as "10 min", "1 kWh" or "5 {currency}"'
        )
    number, unit = match.groups()
    what, value = look_up(unit, units_of(currency), f'budget "{text}" has the unit `{unit}`')
    return Amount(what, float(number) * value)


def units_of(currency: str) -> dict[str, tuple[str, float]]:
    """What one of each unit is; other currencies are known where there is a rate of this one."""
    table = shipped(__file__)
    worth = table["currencies"] if currency in table["currencies"] else {currency: 1.0}
    coins = {coin: ("money", value / worth[currency]) for coin, value in worth.items()}
    return table["units"] | coins


def worded(value: float, budget: str) -> str:
    """A value in the unit of a budget's text."""
    number, unit = AMOUNT.fullmatch(budget).groups()
    return f"{value / amount(budget).value * float(number):.4g} {unit}"


def scaled(config: C, factor: float) -> C:
    """A stage with `factor` times its steps, problems and documents, as far as that makes sense.

    None gets fewer than the smallest number, and an eval never grows.
    """
    if config.kind == "eval":
        factor = min(factor, 1.0)
    changes = {}
    for key, smallest in shipped(__file__)["smallest"].items():
        if hasattr(config, key):
            size = getattr(config, key)
            changes[key] = max(min(size, smallest), round(size * factor))
    for key in PARTS_OF_STEPS:
        if hasattr(config, key):
            changes[key] = round(getattr(config, key) * changes["steps"] / config.steps)
    return config.model_copy(update=changes)


def sized(spec: Spec, width: float) -> Spec:
    """The shape `width` times as wide and as deep, in whole heads; what one head is stays."""
    n_heads = max(round(spec.attention.n_heads * width), 1)
    width = n_heads / spec.attention.n_heads
    if width == 1:
        return spec
    attention, ffn = spec.attention.model_dump(), spec.ffn.model_dump()
    widen(attention, ("d_kv_latent", "d_q_latent"), width)
    widen(ffn, ("d_hidden", "d_dense", "d_expert"), width)
    attention["n_heads"] = n_heads
    if "n_kv_heads" in attention:
        attention["n_kv_heads"] = math.gcd(n_heads, round(attention["n_kv_heads"] * width) or 1)
    fewest = ffn.get("n_dense_layers", 0) + 1
    sizes = {"d_model": spec.d_model, "n_layers": max(round(spec.n_layers * width), fewest)}
    widen(sizes, ("d_model",), width)
    return spec.changed(**sizes, init_std=spec.init_std * width**-0.5, attention=attention, ffn=ffn)


def widen(table: JsonObject, keys: Sequence[str], width: float) -> None:
    """Those sizes that are there, in multiples of eight."""
    for key in keys:
        if table.get(key):
            table[key] = max(round(table[key] * width / 8), 1) * 8


def cut(recipe: Recipe, width: float, factor: float) -> Recipe:
    """All models that aren't given `width` times as wide; `factor` times as many steps, problems and
    documents."""
    models = {
        name: spec if name in recipe.given else sized(spec, width) for name, spec in recipe.models.items()
    }
    stages = tuple(scaled(config, factor) for config in recipe.stages)
    return recipe.model_copy(update={"models": models, "stages": stages})


def fit(recipe: Recipe, machine: Machine | None = None) -> Recipe:
    """The recipe cut to its budget, with the reason; ConfigError with the smallest budget that would do.

    Parameters and tokens both grow as the root of the FLOPs (arXiv 2203.15556, table 2): the first model's
    active parameters come as near to that as whole heads allow, all models grow alike, and steps, problems
    and documents take what is left.  Learning rates stay, and so do all models where one is given.
    """
    what, limit = amount(recipe.budget)
    usable = limit * (1 - KEPT_BACK)
    whole = needed(recipe, what, machine)
    first = next(iter(recipe.models.values()))
    n_heads = first.attention.n_heads

    def takes(factor: float) -> float:
        return needed(cut(recipe, n_heads / first.attention.n_heads, factor), what, machine)

    if not recipe.given:
        n_heads = nearest_heads(first, math.sqrt(usable / whole))
        while n_heads > 1 and takes(0.0) > usable:
            n_heads -= 1
    if (least := takes(0.0)) > usable:
        enough = worded(1.01 * least / (1 - KEPT_BACK), recipe.budget)
        raise ConfigError(
            f'`budget` = "{recipe.budget}" is too small for recipe {recipe.name}; '
            f"expected at least {enough}, or fewer stages"
        )
    factor = largest(lambda factor: takes(factor) <= usable)
    reason = (
        f"the recipe takes {worded(whole, recipe.budget)}; with {growth(first, n_heads):.3g} times its "
        f"active parameters, {factor:.3g} times its steps, problems and documents "
        f"{worded(takes(factor), recipe.budget)} of {recipe.budget}"
    )
    width = n_heads / first.attention.n_heads
    fitted = cut(recipe, width, factor)
    device = machine_of(recipe).device
    if what == "money" and not read_prices().device(device).per_hour:
        time = duration(needed(fitted, "seconds", machine))
        reason += (
            f"; the {device} costs nothing but its electricity, so that this is {time}: name a time, such as "
            "10 min, if that is not meant"
        )
    return fitted.model_copy(update={"fitted": reason, "cut": (width, factor)})


def growth(spec: Spec, n_heads: int) -> float:
    """How many times its active parameters a shape has with as many heads."""
    wider = sized(spec, n_heads / spec.attention.n_heads)
    return counts.params_active(wider) / counts.params_active(spec)


def nearest_heads(spec: Spec, wanted: float) -> int:
    """The number of heads with which active parameters come nearest to `wanted` times what they are."""
    heads = range(1, MOST_HEADS * spec.attention.n_heads + 1)
    return min(heads, key=lambda n_heads: abs(math.log(growth(spec, n_heads) / wanted)))


def largest(fits: Callable[[float], bool]) -> float:
    """The largest factor that fits, by doubling and bisection; 0 does."""
    low, high = 0.0, 1.0
    while fits(high):
        low, high = high, 2 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def resolve(
    table: Mapping[str, Any],
    run: Mapping[str, Any] | None = None,
    here: Callable[[Recipe], Machine] = machine_of,
) -> Recipe:
    """The recipe in a table, cut to its budget unless it is already, by what `here` says of this machine.

    `run` is the resolved recipe of a run that goes on: it stays cut as it is, the table's budget is what may
    be spent.
    """
    recipe = recipe_of(table)
    if recipe.budget is None:
        return recipe
    begun = run if run and run.get("fitted") else {}
    kept = {"budget": begun.get("budget", recipe.budget)}
    if recipe.fitted:
        return recipe.model_copy(update=kept)
    if begun.get("cut"):
        kept |= {"fitted": begun["fitted"], "cut": tuple(begun["cut"])}
        return cut(recipe, *begun["cut"]).model_copy(update=kept)
    if begun:  # from before `cut` was kept
        return fit(recipe.model_copy(update=kept)).model_copy(update={"limit": recipe.limit})
    return fit(recipe, here(recipe))


class Meter:
    """What a run has spent of its limit, by its log; asks to stop when nothing is left."""

    def __init__(self, recipe: Recipe, run: Run, stop: Stop, device: str, units: int):
        self.recipe, self.run, self.stop = recipe, run, stop
        self.device, self.units = device, units
        self.what, self.limit = amount(recipe.limit)
        self.spent = 0.0
        self.machine = machine_of_run(recipe, run)
        self.hear(*run.events())

    def _bill(self, events: Iterable[Event]) -> dict[str, float]:
        """What each stage took by these records."""
        rows = receipt(events, device=self.device, units=self.units).rows
        return {row.stage: getattr(row, self.what) for row in rows}

    def hear(self, *events: Event) -> None:
        self.spent += sum(self._bill(events).values())
        self.stop.requested |= self.spent >= self.limit

    def cut(self, config: C) -> C:
        """The stage as it began; now, with fewer steps if what is to come would take more than is left.

        The stages to come are taken to err as the finished ones did, at first only a little.
        """
        if begun := self.run.begun(config.name):
            return parse(type(config), begun["config"], config.name)
        bill, margin = self._bill(self.run.events()), KEPT_BACK * self.limit
        took = planned = margin
        to_come = 0.0
        for line in estimate(self.recipe, machine=self.machine):
            if self.run.finished(line.stage):
                took += bill[line.stage]
                planned += getattr(line, self.what)
            else:
                to_come += getattr(line, self.what)
        left, expected = self.limit - self.spent, to_come * took / planned
        return scaled(config, left / expected) if expected > left else config

    def verdict(self) -> str:
        """Why it asked to stop, and how to go on; nothing while something is left."""
        if self.spent < self.limit:
            return ""
        spent, twice = (worded(value, self.recipe.limit) for value in (self.spent, 2 * self.limit))
        return f"; {spent} spent of a budget of {self.recipe.limit}: raise it, such as --set budget={twice!r}"
