"""What a pre-training run will cost: parameters, layout, FLOPs, device-hours, memory, energy, power, money.

Time follows from the layout and from the share of the peak that a class of devices reaches while it
multiplies, fitted on the "fit" rows of published.toml; what faults add to it stands beside (replay.py).  Not
modelled: evaluation, cooling, failed attempts, what comes out.
"""

import re
from dataclasses import dataclass
from typing import Any

from nomoat.config import ConfigError, look_up
from nomoat.model import counts
from nomoat.model.spec import PRESETS
from nomoat.plan.choice import Laid, chosen
from nomoat.plan.hardware import Mfu, classes, read_hardware, share, workload
from nomoat.plan.layout import NODE, RESERVED, Device, PricedLayout, Ranking, Workload, search
from nomoat.plan.published import LaterStage, Published, find_published, named, read_later_stages
from nomoat.plan.replay import Endured, endured
from nomoat.report.table import Table
from nomoat.run.ledger import read_prices

LARGE_RUN_DEVICES = 64  # from here on a routed model is taken to have an engine that hides its all-to-all
SUFFIXES = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "P": 1e15}
N_LAYOUTS_SHOWN = 4
UNKNOWN_AS = "ampere"  # the class of devices of whose generation no run was fitted

Cells = tuple[str, str, str, str]  # what, estimate, published, by


@dataclass(frozen=True)
class Plan:
    """An estimate for the best of `layouts`, which stands first; `advice` where not even that fits."""

    params_total: int
    params_active: int
    tokens: float
    context: int
    batch_tokens: float
    flops_per_token: float
    flops_total: float
    gpu: str
    n_gpus: int
    mfu: float
    mfu_source: str
    gpu_hours: float
    days: float
    tokens_per_second: float
    layouts: tuple[PricedLayout, ...]
    advice: str
    limit: str
    kilowatts: float
    kwh: float
    usd: float
    usd_source: str
    faults: Endured | None  # not in what stands above
    mesh: Laid  # that this package would run it on


def parse_quantity(text: str) -> float:
    """`14.8T`, `2.5e9`, `300M` or `4_096` as a number; K M B (or G) T P are powers of a thousand."""
    number = r"([0-9][0-9_]*\.?[0-9]*(?:e[+-]?[0-9]{1,3})?)"
    match = re.fullmatch(rf"\s*{number}\s*([KMBGTP]?)\s*", text, re.IGNORECASE)
    value = float(match[1].replace("_", "")) * SUFFIXES[match[2].upper()] if match else 0.0
    if not 0 < value < float("inf"):
        raise ConfigError(
            f"`{text}` is not a quantity; expected a positive number such as 14.8T, 300M, 2.5e9 or 4096"
        )
    return value


def plan_published(run: Published, mfu: float | None = None, **changes: Any) -> Plan:
    """The plan of a published run that differs in `changes`, fields of Published; None is as published.

    `mfu` is a share of the bf16 peak, all in; None takes one of classes(): the run's own where gpu
    and number stay, else the one that fits model and device.
    """
    asked = run.model_copy(update={key: value for key, value in changes.items() if value is not None})
    if (asked.gpu, asked.gpus) != (run.gpu, run.gpus):
        asked = asked.model_copy(update={"mfu_class": None})
    if 0 < asked.tokens < asked.context:
        raise ConfigError(
            f"{asked.tokens:g} tokens, rows of {asked.context}; expected a row or more, such as 14.8T tokens"
        )
    return plan_pretraining(asked, mfu)


def plan_pretraining(run: Published, given: float | None = None) -> Plan:
    """What it costs, in the best layout that was found; `given` is the share of the peak, if any."""
    device = read_hardware().device(run.gpu)
    if run.gpus < 1 or run.context < 1 or not run.tokens > 0:
        raise ConfigError(
            f"{run.gpus} devices, context {run.context}, {run.tokens} tokens; expected one or more of each"
        )
    mfu = share_of_peak(run, device, given)
    work = workload(run, device, mfu.arithmetic or mfu.value)
    ranking = _ranking(run, work)
    best = ranking.layouts[0]
    flops = work.model.flops
    seconds = best.seconds if mfu.arithmetic else flops / (device.flops_bf16 * mfu.value)  # of a token
    prices = read_prices()
    price = prices.device(run.gpu)
    gpu_hours = run.tokens * seconds / 3600
    kwh = gpu_hours * price.watts / 1000
    n_params = counts.params_total(run.shape)
    return Plan(
        params_total=n_params,
        params_active=counts.params_active(run.shape),
        tokens=run.tokens,
        context=run.context,
        batch_tokens=work.sequences * run.context,
        flops_per_token=flops,
        flops_total=flops * run.tokens,
        gpu=run.gpu,
        n_gpus=run.gpus,
        mfu=flops / seconds / device.flops_bf16,
        mfu_source=mfu.source,
        gpu_hours=gpu_hours,
        days=gpu_hours / run.gpus / 24,
        tokens_per_second=run.gpus / seconds,
        layouts=ranking.layouts[:N_LAYOUTS_SHOWN],
        advice=_advice(best, device.memory_bytes),
        limit="memory" if ranking.memory_binds else best.limit,
        kilowatts=run.gpus * price.watts / 1000,
        kwh=kwh,
        usd=prices.money(price, kwh * 3.6e6, gpu_hours * 3600),
        usd_source=_price_source(run.gpu),
        faults=endured(n_params, run.gpus, run.tokens * seconds / run.gpus),
        mesh=chosen(work, run.gpus, [run.shape], run.shape.n_layers),
    )


def _ranking(run: Published, work: Workload) -> Ranking:
    ranking = search(work, run.gpus)
    if not ranking.layouts:
        raise ConfigError(
            f"a step of {work.sequences * run.context:,.0f} tokens is {work.sequences:,.0f} rows of "
            f"{run.context} for {run.gpus} {run.gpu}; expected a row for each data-parallel group; take "
            "fewer devices or a longer run"
        )
    return ranking


def _price_source(gpu: str) -> str:
    prices = read_prices()
    price = prices.device(gpu)
    return (
        f"estimated: {price.per_hour:g} {prices.currency} a device-hour, {prices.date} "
        f"({price.per_hour_source}), {price.watts:g} W a device ({price.watts_source})"
    )


def share_of_peak(run: Published, device: Device, given: float | None) -> Mfu:
    """As given, or of the run's class; by default the class that fits model and device."""
    if given is not None:
        return Mfu(value=share(given), source="given")
    name = run.mfu_class or mfu_class(run, device)
    if name == device.generation and name not in classes():
        name = UNKNOWN_AS
    mfu = look_up(name, classes(), f"no MFU class `{name}`")
    return mfu.model_copy(update={"source": f"estimated: class {name}, {mfu.source}"})


def mfu_class(run: Published, device: Device) -> str:
    if run.gpu == "cpu":
        return device.generation
    if run.shape.n_moe_layers and run.gpus < LARGE_RUN_DEVICES:
        return "moe-plain"
    return "node" if device.generation == "hopper" and run.gpus <= NODE else device.generation


def _advice(best: PricedLayout, device_bytes: float) -> str:
    if best.fits:
        return ""
    return (
        f"nothing fits: the leanest takes {best.all_bytes / 1e9:,.0f} GB a device, expected at most "
        f"{(1 - RESERVED) * device_bytes / 1e9:,.0f}; take more or larger devices or a smaller model"
    )


@dataclass(frozen=True)
class StageHours:
    """H800 hours of one stage of V3 or R1; None where they are not estimated."""

    what: str
    estimated: float | None
    published: int


def known() -> list[Table]:
    """The models that can be planned, and the devices."""
    models = [
        (slug, f"{run.params or counts.params_total(run.shape):.3g}", f"{run.tokens:.3g}", run.gpu)
        for slug, run in named().items()
    ]
    prices, devices = read_prices(), []
    for key, device in read_hardware().devices.items():
        price = prices.device(key)
        cost = f"{price.per_hour:g} {prices.currency}" if price.rented else "owned"
        memory = f"{device.memory_bytes / 1e9:g} GB"
        rate = f"{device.flops_bf16 / 1e12:.4g}"
        devices.append((key, rate, memory, f"{price.watts:g} W", cost, device.name))
    header = ("--gpu", "bf16 TFLOP/s", "memory", "draws", "an hour", "name")
    return [
        Table("Models", ("--model", "parameters", "tokens", "on"), models, words=("on",)),
        Table("Devices", header, devices, words=("name",)),
    ]


def deepseek_stages() -> list[StageHours]:
    """The stages of V3 and R1, the two sums last; these take what is not estimated as published."""
    v3 = find_published("deepseek-v3")
    published = {line.what: line.hours for line in read_prices().published}
    rows = []
    for stage in read_later_stages():
        what = f"{stage.what}, a floor" if stage.sampled_tokens else stage.what
        rows.append(StageHours(what, stage_hours(v3, stage), published[stage.what]))
    for name in ("V3", "R1"):
        own = [row for row in rows if row.what.startswith(name)]
        estimated = sum(row.estimated or row.published for row in own)
        rows.append(StageHours(f"{name}, the whole", estimated, sum(row.published for row in own)))
    return rows


def stage_hours(v3: Published, stage: LaterStage) -> float | None:
    """RL: sampling at DeepSeek's rate, training, and two models' log-probabilities (2/3 of training)."""
    plans = (plan_published(v3, tokens=part.tokens, context=part.context) for part in stage.trained)
    trained = sum(plan.gpu_hours for plan in plans)
    if stage.sampled_tokens:
        return trained * 5 / 3 + stage.sampled_tokens / stage.sampled_per_second / 3600
    return trained or None


def table_rows(plan: Plan, run: Published) -> list[Cells]:
    """(what, estimate, published, by); hours of equal tokens and devices, with V3 its stages, too."""
    hours = run.gpu_hours if (run.tokens, run.gpu) == (plan.tokens, plan.gpu) else None
    devices = f"{plan.n_gpus:,} {plan.gpu}, {plan.tokens_per_second:,.0f} tokens/s"
    rows = [
        (
            "parameters",
            f"{plan.params_total:,}",
            f"{run.params or 0:,.4g}",
            f"{plan.params_active:,} active",
        ),
        (
            "tokens",
            f"{plan.tokens:,.4g}",
            f"{run.tokens:,.4g}",
            f"rows of {plan.context}, {plan.batch_tokens:,.3g} a step",
        ),
        ("FLOPs", f"{plan.flops_total:,.3g}", "", f"{plan.flops_per_token:,.4g} a token"),
        *_layout_rows(plan),
        ("here", f"{1e6 * plan.mesh.seconds:,.4g} us a token", "", f"[mesh] {plan.mesh.says()}"),
        ("what binds", plan.limit, "", ""),
        ("share of the peak", f"{100 * plan.mfu:.1f} %", "", plan.mfu_source),
        ("time", f"{plan.days:,.1f} days", "", devices),
        ("energy", f"{plan.kwh:,.0f} kWh", "", f"{plan.kilowatts:,.1f} kW"),
        ("device-hours", _cost(plan, plan.gpu_hours), _cost(plan, hours), plan.usd_source),
        *_fault_rows(plan),
    ]
    return rows + _stage_rows(plan) if run.shape == PRESETS["deepseek-v3"] and hours else rows


def _layout_rows(plan: Plan) -> list[Cells]:
    """The layouts, and what memory the best takes."""
    rows = []
    for i, layout in enumerate(plan.layouts, 1):
        rows.append((f"layout {i}", f"{1e6 * layout.seconds:,.4g} us a token", "", str(layout)))
    best = plan.layouts[0]
    memory = ", ".join(f"{part} {size / 1e9:,.1f}" for part, size in best.memory_bytes.items())
    if plan.advice:
        memory += f"; {plan.advice}"
    rows.append(("memory a device", f"{best.all_bytes / 1e9:,.1f} GB", "", memory))
    return rows


def _fault_rows(plan: Plan) -> list[Cells]:
    if plan.faults is None:
        return []
    hours = plan.gpu_hours * plan.faults.machine_share
    return [*plan.faults.cells(), ("hours with faults", _cost(plan, hours), "", "spares included")]


def _stage_rows(plan: Plan) -> list[Cells]:
    rows = []
    for stage in deepseek_stages():
        by = "with what is not estimated as published" if stage.what.endswith("the whole") else ""
        estimated = _cost(plan, stage.estimated) or "not estimated"
        rows.append((stage.what, estimated, _cost(plan, stage.published), by))
    return rows


def _cost(plan: Plan, hours: float | None) -> str:
    return "" if hours is None else f"{hours:,.0f} h, {hours * plan.usd / plan.gpu_hours:,.0f} USD"
