"""What each stage cost: every figure is a sum over the event log.  No torch here.

money = joules / 3.6e6 x price of a kWh (unless the device is rented) + device-seconds / 3600 x price of a
device-hour
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from nomoat.config import Amount, DataError, Strict, Whole, look_up, parse
from nomoat.files import shipped
from nomoat.run.log import Event

EXACT = 2**53  # up to which every whole number is a float
SUMMED = ("tokens", "flops_model", "flops_executed", "seconds")
PARTS = {
    "tokenizer": "pretrain", "pretrain": "pretrain", "extend": "extend",
    "sft": "post-train", "rl": "post-train", "distill": "post-train",
}  # fmt: skip


class Device(Strict):
    """What one unit of a device draws and costs; the price of a rented one has its electricity in it."""

    watts: Amount
    watts_source: str
    per_hour: Amount
    per_hour_source: str
    rented: bool


class Published(Strict):
    """One line of DeepSeek's published costs, in H800 hours."""

    part: str
    what: str
    hours: Whole
    source: str


class Prices(Strict):
    """Dated prices; see prices.toml."""

    date: str
    currency: str
    per_kwh: Amount
    per_kwh_source: str
    devices: dict[str, Device]
    published: list[Published] = []

    def device(self, name: str) -> Device:
        """The entry of a device class; ConfigError for an unknown one."""
        return look_up(name, self.devices, f"no prices for the device class `{name}`")

    def money(self, device: Device, joules: float, device_seconds: float) -> float:
        """Electricity, unless it is in the price of a rented device, and device-hours."""
        return (
            0.0 if device.rented else joules / 3.6e6 * self.per_kwh
        ) + device_seconds / 3600 * device.per_hour


@cache
def read_prices() -> Prices:
    """The package's prices.toml."""
    return parse(Prices, shipped(__file__, "prices.toml"), "prices")


@dataclass(frozen=True)
class Row:
    """The cost of one stage, or of all.  `seconds` are those of the log; `device_seconds` = seconds x units.
    """

    stage: str
    tokens: float
    flops_model: float
    flops_executed: float
    seconds: float
    redone_seconds: float
    device_seconds: float
    joules: float
    joules_source: str
    money: float
    currency: str
    bought: str


@dataclass(frozen=True, slots=True)
class Machine:
    """So many units of a class of prices.toml."""

    device: str
    units: int


@dataclass(frozen=True)
class Receipt:
    """Rows in the order in which the stages first appear in the log, and their total.

    `machines` are all on which it ran, `device` and `units` the first of them; `lineage` says under which
    changes it went on.
    """

    rows: tuple[Row, ...]
    total: Row
    device: str
    units: int
    prices_date: str
    machines: tuple[Machine, ...] = ()
    lineage: tuple[str, ...] = ()


def receipt(events: Iterable[Event], *, device: str = "cpu", units: int = 1) -> Receipt:
    """The receipt of a run from `Run.events()` (which marks redone work), for `units` cores or cards of a
    class, or those that the log names from then on.

    Every figure is the exact sum of the log's: whole numbers stay whole, others are rounded once.  A record
    without joules counts as watts x device-seconds, and its source as "estimated".
    """
    prices = read_prices()
    machine = Machine(device, units)
    machines, lineage = {}, []
    costs = {}
    bought = {}
    for event in events:
        kind, stage = event["kind"], event.get("stage") or "(run)"
        if kind in ("stage_start", "machine") and event.get("units"):
            machine = Machine(event["device"], event["units"])
        lineage += event["changes"] if kind == "continue" else ()
        is_cost = kind in ("step", "work")
        if stage == "(run)" and not is_cost:
            continue
        records = costs.setdefault(stage, [])
        if is_cost:
            machines.setdefault(machine)
            records.append((machine, event))
        elif kind == "score":
            value = event["value"]
            bought[stage] = f"{event['name']} {value if value is None else round(value, 4)}"
        elif kind == "stage_end":
            bought[stage] = str((event.get("outputs") or {}).get("bought", bought.get(stage, "")))
    rows = [_row(stage, records, prices, bought.get(stage, "")) for stage, records in costs.items()]
    everything = [record for records in costs.values() for record in records]
    total = _row("total", everything, prices, "")
    machines = tuple(machines) or (machine,)
    first = machines[0]
    return Receipt(
        tuple(rows), total, first.device, first.units, prices.date, machines, tuple(lineage)
    )


def _row(stage: str, records: Sequence[tuple[Machine, Event]], prices: Prices, bought: str) -> Row:
    """The sums over the records of one stage."""
    joules, device_seconds, money, sources = [], [], [], set()
    for machine, record in records:
        price = prices.device(machine.device)
        measured, seconds = record.get("joules"), (record.get("seconds") or 0) * machine.units
        joules.append(price.watts * seconds if measured is None else measured)
        device_seconds.append(seconds)
        money.append(prices.money(price, joules[-1], seconds))
        sources.add("estimated" if measured is None else record.get("joules_source", "estimated"))
    events = [event for _, event in records]
    sums = {key: exact_sum(event.get(key) for event in events) for key in SUMMED}
    return Row(
        stage=stage,
        **sums,
        redone_seconds=exact_sum(event.get("seconds") for event in events if event.get("redone")),
        device_seconds=exact_sum(device_seconds),
        joules=exact_sum(joules),
        joules_source=" + ".join(sorted(sources)),
        money=exact_sum(money),
        currency=prices.currency,
        bought=bought,
    )


@dataclass(frozen=True)
class Share:
    """One part of the pipeline: its share of our device time beside its share of DeepSeek's H800 hours."""

    part: str
    stages: tuple[str, ...]
    seconds: float
    ours: float | None
    their_hours: int
    theirs: float


def shares(receipt: Receipt, kinds: Mapping[str, str]) -> list[Share]:
    """Our shares beside theirs (V3 and R1 together), over the kinds of stages that they publish."""
    theirs = {}
    for line in read_prices().published:
        theirs[line.part] = theirs.get(line.part, 0) + line.hours
    rows = {part: [] for part in theirs}
    for row in receipt.rows:
        part = PARTS.get(kinds.get(row.stage))
        if part in rows:
            rows[part].append(row)
    ours = {part: float(exact_sum(row.device_seconds for row in rows[part])) for part in theirs}
    all_ours, all_theirs = exact_sum(ours.values()), sum(theirs.values())
    return [
        Share(
            part=part,
            stages=tuple(row.stage for row in rows[part]),
            seconds=ours[part],
            ours=ours[part] / all_ours if all_ours else None,
            their_hours=hours,
            theirs=hours / all_theirs,
        )
        for part, hours in theirs.items()
    ]


def exact_sum(values: Iterable[float | None]) -> float:
    """The exact sum, rounded once at the end; integers of any size stay integers, absent values count
    nothing.
    """
    values = [value for value in values if value is not None]
    try:
        whole = all(isinstance(v, int) for v in values)
        if whole or any(abs(v) > EXACT for v in values):
            return sum(values) if whole else float(sum(map(Fraction, values)))
        total = math.fsum(values)  # exact too, and quicker
        return total if math.isfinite(total) else float(Fraction(total))
    except (TypeError, ValueError, OverflowError):
        raise DataError(
            f"the log has something else than finite numbers among {values[:5]} …; mend that line"
        ) from None


def short(value: float, unit: str = "") -> str:
    """A number with three digits and a metric prefix; large ones keep their exponent, as FLOPs are told."""
    size = abs(value)
    if size >= 1e15:
        return f"{value:.2e} {unit}".strip()
    for power, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if size >= 10**power:
            return f"{value / 10**power:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".strip()


def money(value: float) -> str:
    """An amount with two significant digits, never in powers of ten."""
    if value >= 0.1 or not value:
        return f"{value:,.2f}"
    return f"{value:.{1 - math.floor(math.log10(value))}f}" if value >= 1e-4 else "< 0.0001"


def duration(seconds: float) -> str:
    """Seconds below two minutes, then minutes, then hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
