"""The first estimate of a pre-training run: parameters, FLOPs, device-hours, memory, energy, money.  No torch here.

FLOPs follow from the shape (model/spec.py); time follows from the share of the peak that such runs reach (MFU), which
is an input or a class of hardware.toml taken from published runs.  Not modelled: communication, restarts, activations,
the quality of what comes out.
"""

import re
from dataclasses import asdict, dataclass
from typing import Any

from nomoat.config import ConfigError, Strict, nearest, parse, shipped
from nomoat.ledger import read_prices
from nomoat.model.spec import ModelSpec

BYTES_PER_PARAM = {"weights": 2, "gradients": 4, "optimiser": 12}  # bf16; float32; float32 master and two moments
LARGE_RUN_DEVICES = 64  # from here on a routed model is taken to have a tuned expert-parallel engine
SUFFIXES = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "P": 1e15}


class Device(Strict):
    """What one device can do: dense bf16 FLOP/s, bytes, bytes/s."""

    name: str
    flops_bf16: float
    memory_bytes: float
    bytes_per_second: float
    source: str


class Mfu(Strict):
    """The share of the peak that a kind of run reaches, and where that is from."""

    value: float
    source: str


class Hardware(Strict):
    """hardware.toml, dated."""

    date: str
    devices: dict[str, Device]
    mfu: dict[str, Mfu]


class Published(Strict):
    """One published run; hours and device are None where nobody published them."""

    name: str
    params_total: float
    params_active: float
    tokens: float
    context: int
    gpu: str | None = None
    gpu_hours: float | None = None
    flops_per_token: float
    mfu_class: str
    source: str


@dataclass(frozen=True)
class Plan:
    """An estimate.  `memory_bytes` is one device's share of weights, gradients and optimiser, split evenly."""

    params_total: int
    params_active: int
    params_mtp: int
    tokens: float
    context: int
    flops_per_token: float
    flops_total: float
    gpu: str
    n_gpus: int
    mfu: float
    mfu_source: str
    gpu_hours: float
    days: float
    tokens_per_second: float
    memory_bytes: dict[str, float]
    fits: bool
    kwh: float
    joules: float
    energy_source: str
    usd: float
    usd_source: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_hardware() -> Hardware:
    return parse(Hardware, shipped(__file__, "hardware.toml"), "hardware")


def read_published() -> list[Published]:
    return [parse(Published, run, "published") for run in shipped(__file__, "published.toml")["runs"]]


def parse_quantity(text: str) -> float:
    """`14.8T`, `2.5e9`, `300M` or `4_096` as a number; K M B (or G) T P are powers of a thousand."""
    match = re.fullmatch(r"\s*([0-9][0-9_]*\.?[0-9]*(?:e[+-]?[0-9]{1,3})?)\s*([KMBGTP]?)\s*", text, re.IGNORECASE)
    value = float(match[1].replace("_", "")) * SUFFIXES[match[2].upper()] if match else 0.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"`{text}` is not a quantity; expected a positive number such as 14.8T, 300M, 2.5e9 or 4096")
    return value


def plan_pretraining(
    spec: ModelSpec, tokens: float, gpu: str, n_gpus: int, context: int, mfu: float | str | None = None
) -> Plan:
    """What `tokens` of pre-training at `context` cost on `n_gpus` devices of a kind.

    `mfu` is a share of the bf16 peak, a class of hardware.toml, or None for the class that fits model and device.
    """
    hardware, prices = read_hardware(), read_prices()
    if gpu not in hardware.devices:
        raise ConfigError(f"no device `{gpu}` in hardware.toml; {nearest(gpu, list(hardware.devices))}")
    if n_gpus < 1 or context < 1 or not tokens > 0:
        raise ConfigError(f"{n_gpus} devices, context {context}, {tokens} tokens; expected one or more of each")
    device, price = hardware.devices[gpu], prices.device(gpu)
    share, source = _mfu(hardware, spec, gpu, n_gpus, mfu)
    flops_per_token = spec.flops_train((context + 1) / 2)  # causal: a token attends to half of the row on average
    tokens_per_second = n_gpus * device.flops_bf16 * share / flops_per_token
    gpu_hours = tokens / tokens_per_second / 3600 * n_gpus
    memory = {part: (spec.params_total() + spec.params_mtp()) * n / n_gpus for part, n in BYTES_PER_PARAM.items()}
    kwh = gpu_hours * price.watts / 1000
    return Plan(
        params_total=spec.params_total(),
        params_active=spec.params_active(),
        params_mtp=spec.params_mtp(),
        tokens=tokens,
        context=context,
        flops_per_token=flops_per_token,
        flops_total=flops_per_token * tokens,
        gpu=gpu,
        n_gpus=n_gpus,
        mfu=share,
        mfu_source=source,
        gpu_hours=gpu_hours,
        days=gpu_hours / n_gpus / 24,
        tokens_per_second=tokens_per_second,
        memory_bytes=memory,
        fits=sum(memory.values()) < device.memory_bytes,
        kwh=kwh,
        joules=kwh * 3.6e6,
        energy_source=f"estimated: {price.watts:g} W a device ({price.watts_source})",
        usd=prices.money(price, kwh * 3.6e6, gpu_hours * 3600),
        usd_source=f"{price.per_hour:g} {prices.currency} a device-hour, {prices.date} ({price.per_hour_source})",
    )


def _mfu(hardware: Hardware, spec: ModelSpec, gpu: str, n_gpus: int, mfu: float | str | None) -> tuple[float, str]:
    if isinstance(mfu, float | int):
        if not 0 < mfu <= 1:
            raise ConfigError(f"mfu = {mfu}; expected a share of the peak above 0 and at most 1")
        return float(mfu), "given"
    if mfu is None:
        routed = "moe-tuned" if n_gpus >= LARGE_RUN_DEVICES else "moe-plain"
        mfu = "cpu" if gpu == "cpu" else routed if spec.n_routed else "dense"
    if mfu not in hardware.mfu:
        raise ConfigError(f"no MFU class `{mfu}` in hardware.toml; {nearest(mfu, list(hardware.mfu))}")
    return hardware.mfu[mfu].value, f"estimated: class {mfu} ({hardware.mfu[mfu].source})"
