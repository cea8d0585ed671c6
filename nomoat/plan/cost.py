"""What a pre-training run will cost: parameters, layout, FLOPs, device-hours, memory, energy, power, money.  No torch here.

Time follows from the layout and from the share of the peak that a class of devices reaches while it multiplies, fitted on
the "fit" rows of published.toml.  Not modelled: restarts, evaluation, cooling, failed attempts, what comes out.
"""

import re
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

from nomoat.config import ConfigError, Strict, nearest, parse
from nomoat.files import shipped
from nomoat.model.spec import PRESETS
from nomoat.plan.layout import NODE, RESERVED, Device, Layout, search
from nomoat.plan.shape import Counted, Shape, flops_per_token, params_active, params_total
from nomoat.run.ledger import read_prices

LARGE_RUN_DEVICES = 64  # from here on a routed model is taken to have an engine that hides its all-to-all
SUFFIXES = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "P": 1e15}


class Mfu(Strict):
    """The share of the peak that a kind of run reaches, all in; `arithmetic`: while it multiplies, where that is fitted."""

    value: float
    source: str
    arithmetic: float | None = None


class Hardware(Strict):
    """hardware.toml, dated, and the classes fitted on published.toml."""

    date: str
    devices: dict[str, Device]
    mfu: dict[str, Mfu]


class Published(Strict):
    """One published run, in the words of published.toml; what nobody published is None."""

    name: str
    shape: Shape
    params: float | None = None
    tokens: float
    context: int
    batch: float | None = None
    activation_bytes: int = 2
    dualpipe: bool = True
    layout: tuple[int, int, int] | None = None
    gpu: str = "h100"
    gpus: int = 1024  # assumed where nobody published it
    gpu_hours: float | None = None
    tokens_per_second: float | None = None  # of one device; hours follow where they are not given
    flops: float | None = None
    counted: Counted = "causal"
    flops_source: str | None = None
    use: Literal["fit", "predict", "shown"]
    mfu_class: str | None = None
    source: str
    note: str = ""

    def plan(self, **other: Any) -> "Plan":
        """The plan of this run, or of one that differs in `other` arguments of plan_pretraining, None: as published."""
        other = {key: value for key, value in other.items() if value is not None}
        given = {"gpu": self.gpu, "n_gpus": self.gpus, "tokens": self.tokens, "context": self.context, "batch": self.batch}
        mine = all(other.get(key, given[key]) == given[key] for key in ("gpu", "n_gpus"))
        more = {"activation_bytes": self.activation_bytes, "dualpipe": self.dualpipe, "mfu": self.mfu_class if mine else None}
        return plan_pretraining(self.shape, **{**given, **more, **other})


@dataclass(frozen=True)
class Plan:
    """An estimate.  `layouts`: the best, which the figures are for, and the next; `advice` where not even that fits."""

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
    layouts: tuple[Layout, ...]
    advice: str
    limit: str
    kilowatts: float
    kwh: float
    usd: float
    usd_source: str

    to_json = asdict


@cache
def read_published() -> tuple[Published, ...]:
    """The rows of published.toml; a shape that is only named is a preset, and a rate makes hours."""
    shape = lambda run: {"shape": PRESETS.get(str(run["shape"]), run["shape"])}
    rate = lambda run: {"gpu_hours": run["tokens"] / run["tokens_per_second"] / 3600} if "tokens_per_second" in run else {}
    return tuple(parse(Published, r | shape(r) | rate(r), "published") for r in shipped(__file__, "published.toml")["runs"])


@cache
def read_hardware() -> Hardware:
    """The devices, the classes measured in hardware.toml, and those fitted on published.toml."""
    bare = parse(Hardware, shipped(__file__, "hardware.toml"), "hardware")
    rows: dict[str, list[tuple[str, float, float]]] = {}
    for run in (run for run in read_published() if run.use == "fit"):
        device, seconds = bare.devices[run.gpu], run.gpu_hours * 3600 / run.tokens
        overall = share = flops_per_token(run.shape, run.context) / seconds / device.flops_bf16
        for _ in range(6):  # the share at which the best layout takes the published time: a contraction
            found, _ = search(run.shape, device, share, run.gpus, run.batch, run.context, run.dualpipe, run.activation_bytes)
            share *= found[0].seconds / seconds
        rows.setdefault(run.mfu_class or device.generation, []).append((run.name, overall, share))
    mean = lambda group, at: sum(row[at] for row in group) / len(group)
    fitted = {name: Mfu(value=mean(rs, 1), arithmetic=mean(rs, 2), source="fitted on " + ", ".join(r[0] for r in rs))
              for name, rs in rows.items()}  # fmt: skip
    return bare.model_copy(update={"mfu": {**bare.mfu, **fitted}})


def parse_quantity(text: str) -> float:
    """`14.8T`, `2.5e9`, `300M` or `4_096` as a number; K M B (or G) T P are powers of a thousand."""
    match = re.fullmatch(r"\s*([0-9][0-9_]*\.?[0-9]*(?:e[+-]?[0-9]{1,3})?)\s*([KMBGTP]?)\s*", text, re.IGNORECASE)
    value = float(match[1].replace("_", "")) * SUFFIXES[match[2].upper()] if match else 0.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"`{text}` is not a quantity; expected a positive number such as 14.8T, 300M, 2.5e9 or 4096")
    return value


def plan_pretraining(
    spec: Shape, tokens: float, gpu: str, n_gpus: int, context: int, mfu: float | str | None = None, *,
    batch: float | None = None, activation_bytes: int = 2, dualpipe: bool | None = None,
) -> Plan:  # fmt: skip
    """What `tokens` of pre-training at `context` cost on `n_gpus` devices of a kind, in the best layout that was found.

    `mfu` is a share of the bf16 peak, all in; a class of read_hardware(); or None for the class that fits model and
    device.  `batch`: tokens of a step, by default B = 0.292 C^0.3271 (DeepSeek LLM, arXiv 2401.02954, section 3.1).
    """
    hardware, prices = read_hardware(), read_prices()
    if gpu not in hardware.devices:
        raise ConfigError(f"no device `{gpu}` in hardware.toml; {nearest(gpu, list(hardware.devices))}")
    device, price = hardware.devices[gpu], prices.device(gpu)
    if n_gpus < 1 or context < 1 or not tokens > 0:
        raise ConfigError(f"{n_gpus} devices, context {context}, {tokens} tokens; expected one or more of each")
    share, source, whole = _share(hardware, spec, gpu, n_gpus, mfu)
    flops = flops_per_token(spec, context)
    batch = batch or max(0.292 * (flops * tokens) ** 0.3271, context)
    tuned = n_gpus >= LARGE_RUN_DEVICES if dualpipe is None else dualpipe
    found, slower = search(spec, device, share, n_gpus, batch, context, tuned, activation_bytes)
    if not found:
        raise ConfigError(f"a step of {batch:,.0f} tokens is {batch / context:,.0f} rows of {context} for {n_gpus} {gpu}; "
                          "expected a row for each data-parallel group; take fewer devices or a longer run")  # fmt: skip
    best, rate = found[0], device.flops_bf16 * share / flops if whole else 1 / found[0].seconds
    advice = "" if best.fits else (f"nothing fits: the leanest takes {best.all_bytes / 1e9:,.0f} GB a device, expected at most "
              f"{(1 - RESERVED) * device.memory_bytes / 1e9:,.0f}; take more or larger devices or a smaller model")  # fmt: skip
    kwh = (gpu_hours := tokens / rate / 3600) * price.watts / 1000
    return Plan(
        params_total=params_total(spec), params_active=params_active(spec), tokens=tokens, context=context,
        batch_tokens=batch, flops_per_token=flops, flops_total=flops * tokens, gpu=gpu, n_gpus=n_gpus,
        mfu=rate * flops / device.flops_bf16, mfu_source=source, gpu_hours=gpu_hours, days=gpu_hours / n_gpus / 24,
        tokens_per_second=rate * n_gpus, layouts=tuple(found[:4]), advice=advice,
        limit="memory" if slower else best.limit, kilowatts=n_gpus * price.watts / 1000, kwh=kwh,
        usd=prices.money(price, kwh * 3.6e6, gpu_hours * 3600),
        usd_source=f"estimated: {price.per_hour:g} {prices.currency} a device-hour, {prices.date} ({price.per_hour_source}), "
        f"{price.watts:g} W a device ({price.watts_source})",
    )  # fmt: skip


def _share(hardware: Hardware, spec: Shape, gpu: str, n: int, mfu: float | str | None) -> tuple[float, str, bool]:
    """A share of the peak, where it is from, and whether it is all in (else the layout's costs come on top)."""
    if isinstance(mfu, float | int):
        if not 0 < mfu <= 1:
            raise ConfigError(f"mfu = {mfu}; expected a share of the peak above 0 and at most 1")
        return float(mfu), "given", True
    if mfu is None:
        plain, class_ = getattr(spec, "n_moe_layers", 0) and n < LARGE_RUN_DEVICES, hardware.devices[gpu].generation
        mfu = class_ if gpu == "cpu" else "moe-plain" if plain else "node" if class_ == "hopper" and n <= NODE else class_
    if mfu not in hardware.mfu:
        raise ConfigError(f"no MFU class `{mfu}`; {nearest(mfu, list(hardware.mfu))}")
    found = hardware.mfu[mfu]
    return found.arithmetic or found.value, f"estimated: class {mfu}, {found.source}", found.arithmetic is None


def find_published(name: str) -> Published:
    """The published run of a name on the command line (`llama-2-70b`)."""
    runs = {run.name.lower().replace(" ", "-"): run for run in read_published()}
    if name not in runs:
        raise ConfigError(f"no model `{name}` in published.toml; {nearest(name, list(runs))}")
    return runs[name]


def deepseek_stages() -> list[tuple[str, float | None, int]]:
    """(what, H800 hours estimated or None, H800 hours published) of V3 and R1, the sums last; they take None as published.

    R1-Zero: sampling as fast as DeepSeek serves, training, and the log-probabilities of two models (2/3 of training).
    """
    v3, rows, lines = find_published("deepseek-v3"), [], {line.what: line.hours for line in read_prices().published}
    for stage in shipped(__file__, "published.toml")["stages"]:
        hours = sum(v3.plan(tokens=n, context=T).gpu_hours for n, T in stage.get("trained", []))
        hours = hours * 5 / 3 + stage["sampled"] / stage["per_second"] / 3600 if "sampled" in stage else hours or None
        rows.append((stage["what"] + ", a floor" * ("sampled" in stage), hours, lines[stage["what"]]))
    for name in ("V3", "R1"):
        ours, theirs = zip(*((ours or theirs, theirs) for what, ours, theirs in rows if what.startswith(name)), strict=True)
        rows.append((f"{name}, the whole", sum(ours), sum(theirs)))
    return rows


def table_rows(plan: Plan, run: Published) -> list[tuple[str, str, str, str]]:
    """(what, estimate, published, by) as texts, with V3 also DeepSeek's stages; hours for the same tokens and device."""
    best, per_hour = plan.layouts[0], plan.usd / plan.gpu_hours
    hours = run.gpu_hours if (run.tokens, run.gpu) == (plan.tokens, plan.gpu) else None
    memory = ", ".join(f"{part} {size / 1e9:,.1f}" for part, size in best.memory_bytes.items())
    stages = deepseek_stages() if run.shape == PRESETS["deepseek-v3"] and hours else []
    cost = lambda hours: "" if hours is None else f"{hours:,.0f} h, {hours * per_hour:,.0f} USD"
    return [
        ("parameters", f"{plan.params_total:,}", f"{run.params or 0:,.4g}", f"{plan.params_active:,} active"),
        ("tokens", f"{plan.tokens:,.4g}", f"{run.tokens:,.4g}", f"rows of {plan.context}, {plan.batch_tokens:,.3g} a step"),
        ("FLOPs", f"{plan.flops_total:,.3g}", "", f"{plan.flops_per_token:,.4g} a token"),
        *((f"layout {i}", f"{1e6 * x.seconds:,.4g} us a token", "", str(x)) for i, x in enumerate(plan.layouts, 1)),
        ("memory a device", f"{best.all_bytes / 1e9:,.1f} GB", "", f"{memory}{'; ' if plan.advice else ''}{plan.advice}"),
        ("what binds", plan.limit, "", ""),
        ("share of the peak", f"{100 * plan.mfu:.1f} %", "", plan.mfu_source),
        ("time", f"{plan.days:,.1f} days", "", f"{plan.n_gpus:,} {plan.gpu}, {plan.tokens_per_second:,.0f} tokens/s"),
        ("energy", f"{plan.kwh:,.0f} kWh", "", f"{plan.kilowatts:,.1f} kW"),
        ("device-hours", cost(plan.gpu_hours), cost(hours), plan.usd_source),
        *((what, cost(ours) or "not estimated", cost(theirs), "with what is not estimated as published" * ("whole" in what))
          for what, ours, theirs in stages),
    ]
