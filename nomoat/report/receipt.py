"""The receipt of a run, from its event log alone."""

from collections.abc import Sequence

from nomoat.report.table import Table
from nomoat.run.directory import Run
from nomoat.run.ledger import (
    Machine,
    Receipt,
    Row,
    Share,
    duration,
    money,
    read_prices,
    receipt,
    shares,
    short,
)

HEADER = ("stage", "tokens", "model FLOPs", "executed", "device time", "of it redone", "energy")


def receipt_of(run: Run) -> Receipt:
    """The receipt of a run, for the device and the number of units that its log names."""
    events = run.events()
    start = next((e for e in events if e["kind"] == "stage_start"), {})
    device = start.get("device") or run.recipe.get("device", "cpu").partition(":")[0]
    return receipt(events, device=device, units=start.get("units") or 1)


def kinds_of(run: Run) -> dict[str, str]:
    """Stage name -> kind."""
    return {s.get("name") or s["kind"]: s["kind"] for s in run.recipe.get("stages", [])}


def shares_of(run: Run, receipt: Receipt) -> list[Share]:
    """Where the device time of a run went."""
    return shares(receipt, kinds=kinds_of(run))


def receipt_table(receipt: Receipt) -> Table:
    """Stage, tokens, FLOPs, device time, energy, money, and what it bought."""
    header = [*HEADER, receipt.total.currency, "bought"]
    rows = [row_cells(row) for row in (*receipt.rows, receipt.total)]
    if not receipt.total.redone_seconds:
        for cells in (header, *rows):
            del cells[HEADER.index("of it redone")]
    return Table("Receipt", header, rows, _sources(receipt), ("bought",), total=True)


def row_cells(row: Row) -> list[str]:
    return [
        row.stage,
        short(row.tokens),
        short(row.flops_model),
        short(row.flops_executed),
        duration(row.device_seconds),
        duration(row.redone_seconds) if row.redone_seconds else "",
        short(row.joules, "J"),
        money(row.money),
        row.bought,
    ]


def _sources(receipt: Receipt) -> str:
    """Where energy and money are from, on which machines it ran, and under which changes it went on."""
    prices = read_prices()
    devices = {machine.device: prices.device(machine.device) for machine in receipt.machines}
    energy = receipt.total.joules_source or "estimated"
    if "estimated" in energy:
        watts = [f"{price.watts:g} W a {name}" for name, price in devices.items()]
        energy += f" at {', '.join(watts)}"
    per_kwh = f"{prices.per_kwh:g} {prices.currency} a kWh"
    for name, price in devices.items():
        if price.per_hour:
            per_kwh += f", {price.per_hour:g} an hour of {name}"
    machines = ", then ".join(_machine(machine) for machine in receipt.machines)
    text = f"Energy {energy}; money by the prices of {receipt.prices_date} ({per_kwh}); {machines}."
    if receipt.lineage:
        text += f" It went on under changes, not to the same bits: {'; '.join(receipt.lineage)}."
    return text


def _machine(machine: Machine) -> str:
    return f"{machine.units} {machine.device} {'unit' if machine.units == 1 else 'units'}"


def shares_table(shares: Sequence[Share]) -> Table:
    """Where the device time went, beside DeepSeek's published hours (V3 and R1 together)."""
    rows = []
    for s in shares:
        ours = "" if s.ours is None else f"{100 * s.ours:.1f} %"
        hours = f"{s.their_hours / 1e3:,.0f} K"
        rows.append((s.part, duration(s.seconds), ours, hours, f"{100 * s.theirs:.1f} %"))
    note = (
        "Theirs: H800 hours of DeepSeek-V3 and R1, published. "
        "Tokenizer is in pretraining, eval and export left out."
    )
    header = ("part", "ours", "share", "theirs, H800 h", "share")
    return Table("Share of the cost", header, rows, note)
