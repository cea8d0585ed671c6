"""What a recipe will take, and recipes that are cut to a budget of time, energy or money.

A stage's `plan` tells its model FLOPs as the receipt will count them and, for the clock, FLOPs `trained` (executed, in
bf16's terms), FLOPs `sampled` (many tokens at once count half: they go twice as fast) and `host` seconds.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nomoat.config import C, ConfigError, nearest, parse
from nomoat.files import shipped
from nomoat.model import counts
from nomoat.model.spec import Spec
from nomoat.plan.cost import read_hardware
from nomoat.run.directory import Run
from nomoat.run.ledger import Event, read_prices, receipt
from nomoat.run.stop import Stop
from nomoat.stages.recipe import Recipe
from nomoat.stages.recipe import resolve as recipe_of

AMOUNT = re.compile(r"\s*([0-9.]+(?:e\+[0-9]+)?)\s*([A-Za-z]+)\s*")
KEPT_BACK = 0.1  # share of a budget that is not planned for: estimates err


@dataclass(frozen=True)
class Line:
    """One stage's estimate; None where a stage does not train or sample.  `others` is what else its plan says."""

    stage: str
    tokens: int | None
    parameters: int | None
    active: int | None
    flops: float | None
    memory_bytes: float | None
    seconds: float
    joules: float
    money: float
    others: dict[str, Any]


def machine(recipe: Recipe) -> tuple[str, int, float, float, str]:
    """(class, units, FLOP/s in training, in sampling, sources); one core samples as fast as several, and cuda is an h100."""
    kind, name, units = ("cpu", "cpu", recipe.threads) if recipe.device == "cpu" else ("cuda", "h100", 1)
    hardware = read_hardware()
    train, sample = (hardware.mfu[f"{kind}-{what}"] for what in ("executed", "sampling"))
    peak = hardware.devices[name].flops_bf16
    shares = (f"{100 * share.value:.0f} % of the peak in {what} ({share.source})"
              for what, share in (("training", train), ("sampling, of one unit's", sample)))  # fmt: skip
    return name, units, peak * units * train.value, peak * sample.value, ", ".join(shares)


def estimate(recipe: Recipe, only: Sequence[str] = ()) -> tuple[Line, ...]:
    """The estimate of every stage of a recipe, or of those named in `only`; runs nothing."""
    name, units, train, sample, _ = machine(recipe)
    prices, lines = read_prices(), []
    for config in recipe.stages:
        if not only or config.name in only:
            figures = dict(recipe.plan(config))
            seconds = figures.pop("trained", 0) / train + figures.pop("sampled", 0) / sample + figures.pop("host", 0)
            known = {key: figures.pop(key, None) for key in ("tokens", "parameters", "active", "flops", "memory_bytes")}
            joules = prices.device(name).watts * units * seconds
            cost = prices.money(prices.device(name), joules, seconds * units)
            lines.append(Line(config.name, **known, seconds=seconds, joules=joules, money=cost, others=figures))
    return tuple(lines)


def amount(text: str) -> tuple[str, float]:
    """("seconds", "joules" or "money", how much) of a budget such as "10 min", "1 kWh", "5 EUR"; money as prices.toml."""
    table, here = shipped(__file__), read_prices().currency
    known = table["currencies"] if here in table["currencies"] else {here: 1.0}
    units = table["units"] | {coin: ("money", worth / known[here]) for coin, worth in known.items()}
    match = AMOUNT.fullmatch(text)
    if match is None or match[1].count(".") > 1 or match[1] == "." or float(match[1]) <= 0:
        raise ConfigError(f'budget "{text}"; expected an amount and a unit, such as "10 min", "1 kWh" or "5 {here}"')
    if match[2] not in units:
        raise ConfigError(f'budget "{text}" has the unit `{match[2]}`; {nearest(match[2], list(units))}')
    what, worth = units[match[2]]
    return what, float(match[1]) * worth


def told(text: str, value: float) -> str:
    """A value in the unit of a budget's text."""
    number, unit = AMOUNT.fullmatch(text).groups()
    return f"{value / amount(text)[1] * float(number):.4g} {unit}"


def scaled(config: C, factor: float) -> C:
    """A stage with `factor` times its steps, problems and documents, no fewer than make sense; an eval never grows."""
    factor, floor = min(factor, 1.0) if config.kind == "eval" else factor, shipped(__file__)["smallest"]
    has = {key: getattr(config, key) for key in (*floor, "policy_steps", "ramp_steps") if hasattr(config, key)}
    found = {key: max(min(n, floor[key]), round(n * factor)) for key, n in has.items() if key in floor}
    within = {key: round(n * found["steps"] / config.steps) for key, n in has.items() if key not in floor}
    return config.model_copy(update=found | within)


def sized(spec: Spec, width: float) -> Spec:
    """The shape `width` times as wide and as deep, in whole heads; what one head is stays."""
    heads = max(round(spec.attention.n_heads * width), 1)
    if (width := heads / spec.attention.n_heads) == 1:
        return spec
    wide = lambda n: max(round(n * width / 8), 1) * 8
    attention, ffn = spec.attention.model_dump(), spec.ffn.model_dump()
    attention |= {key: wide(attention[key]) for key in ("d_kv_latent", "d_q_latent") if attention.get(key)}
    attention["n_heads"] = heads
    if "n_kv_heads" in attention:
        attention["n_kv_heads"] = math.gcd(heads, round(attention["n_kv_heads"] * width) or 1)
    ffn |= {key: wide(ffn[key]) for key in ("d_hidden", "d_dense", "d_expert") if key in ffn}
    depth = max(round(spec.n_layers * width), ffn.get("n_dense_layers", 0) + 1)
    sizes = {"d_model": wide(spec.d_model), "n_layers": depth, "init_std": spec.init_std * width**-0.5}
    return spec.changed(**sizes, attention=attention, ffn=ffn)


def fit(recipe: Recipe) -> Recipe:
    """The recipe cut to its budget, with the reason; ConfigError with the smallest budget that would do.

    Parameters and tokens both grow as the root of the FLOPs (arXiv 2203.15556, table 2): the first model's active
    parameters come as near to that as whole heads allow, all models grow alike, and steps, problems and documents take
    what is left.  Learning rates stay.
    """
    (what, limit), first = amount(recipe.budget), next(iter(recipe.models.values()))
    need = lambda found: sum(getattr(line, what) for line in estimate(found))
    room, whole = limit * (1 - KEPT_BACK), need(recipe)
    active = lambda heads: counts.params_active(sized(first, heads / first.attention.n_heads)) / counts.params_active(first)
    heads = min(range(1, 16 * first.attention.n_heads + 1), key=lambda heads: abs(math.log(active(heads) ** 2 * whole / room)))

    def cut(factor: float) -> Recipe:
        models = {name: sized(spec, heads / first.attention.n_heads) for name, spec in recipe.models.items()}
        stages = tuple(scaled(config, factor) for config in recipe.stages)
        return recipe.model_copy(update={"models": models, "stages": stages})

    while (least := need(cut(0.0))) > room and heads > 1:
        heads -= 1
    if least > room:
        raise ConfigError(f'`budget` = "{recipe.budget}" is too small for recipe {recipe.name}; expected at least '
                          f"{told(recipe.budget, 1.01 * least / (1 - KEPT_BACK))}, or fewer stages")  # fmt: skip
    low, high = 0.0, 1.0
    while need(cut(high)) <= room:
        low, high = high, 2 * high
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if need(cut(middle)) <= room else (low, middle)
    reason = (f"the recipe takes {told(recipe.budget, whole)}; with {active(heads):.3g} times its active parameters, {low:.3g} "
              f"times its steps, problems and documents {told(recipe.budget, need(cut(low)))} of {recipe.budget}")  # fmt: skip
    return cut(low).model_copy(update={"fitted": reason})


def resolve(table: Mapping[str, Any], run: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in a table, cut to its budget unless it is already.

    `run` is the resolved recipe of a run that goes on: it stays cut as it is, the table's budget is what may be spent.
    """
    if table.get("budget") and run and run.get("fitted"):
        return resolve({**table, "budget": run.get("budget")}).model_copy(update={"limit": recipe_of(table).limit})
    recipe = recipe_of(table)
    return fit(recipe) if recipe.budget and not recipe.fitted else recipe


class Meter:
    """What a run has spent of its limit, by its log; asks to stop when nothing is left."""

    def __init__(self, recipe: Recipe, run: Run, stop: Stop, device: str, units: int):
        self.recipe, self.run, self.stop = recipe, run, stop
        self.what, self.limit = amount(recipe.limit)
        cost = lambda row: (row.stage, getattr(row, self.what))
        self.bill = lambda events: dict(map(cost, receipt(events, device=device, units=units).rows))
        self.spent = 0.0
        self.hear(*run.events())

    def hear(self, *events: Event) -> None:
        self.spent += sum(self.bill(events).values())
        self.stop.requested |= self.spent >= self.limit

    def cut(self, config: C) -> C:
        """The stage as it began; now, with fewer steps if what is to come would take more than is left.

        The stages to come are taken to err as the finished ones did, at first only a little.
        """
        if begun := self.run.events("stage_start", config.name):
            return parse(type(config), begun[-1]["config"], config.name)
        plan = {line.stage: getattr(line, self.what) for line in estimate(self.recipe)}
        done, bill, margin = [s for s in plan if self.run.finished(s)], self.bill(self.run.events()), KEPT_BACK * self.limit
        pace = (sum(bill[s] for s in done) + margin) / (sum(plan[s] for s in done) + margin)
        left, ahead = self.limit - self.spent, pace * sum(plan[s] for s in plan if s not in done)
        return scaled(config, left / ahead) if ahead > left else config

    def verdict(self) -> str:
        """Why it asked to stop, and how to go on; nothing while something is left."""
        if self.spent < self.limit:
            return ""
        spent, more = told(self.recipe.limit, self.spent), told(self.recipe.limit, 2 * self.limit)
        return f"; {spent} spent of a budget of {self.recipe.limit}: raise it, such as --set budget={more!r}"
