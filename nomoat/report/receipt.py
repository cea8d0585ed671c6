"""The tables of a run, from its event log alone: what it cost, what its models score."""

from collections.abc import Sequence

from nomoat.report.table import Table
from nomoat.run.directory import Run
from nomoat.run.ledger import HEADER, Receipt, Share, duration, read_prices, receipt, shares
from nomoat.run.ledger import money as money


def receipt_of(run: Run) -> Receipt:
    """The receipt of a run, for the device and the number of units that its log names."""
    events = run.events()
    start = next((e for e in events if e["kind"] == "stage_start"), {})
    device = start.get("device") or run.recipe.get("device", "cpu").partition(":")[0]
    return receipt(events, device=device, units=start.get("units") or 1)


def kinds_of(run: Run) -> dict[str, str]:
    """Stage name -> kind."""
    return {s.get("name") or s["kind"]: s["kind"] for s in run.recipe.get("stages", [])}


def receipt_table(found: Receipt) -> Table:
    """Stage, tokens, FLOPs, device time, energy, money, and what it bought."""
    prices, titles = read_prices(), {"money": found.total.currency}
    shown = [i for i, name in enumerate(HEADER) if name != "of it redone" or found.total.redone_seconds]
    header = tuple(titles.get(HEADER[i], HEADER[i]) for i in shown)
    rows = tuple(tuple(row[i] for i in shown) for row in found.to_rows())
    price = prices.device(found.device)
    source = found.total.joules_source or "estimated"
    note = f"Energy {source}" + (f" at {price.watts:g} W a {found.device}" if "estimated" in source else "")
    note += f"; money by the prices of {found.prices_date} ({prices.per_kwh:g} {prices.currency} a kWh"
    note += f", {price.per_hour:g} an hour of {found.device})" if price.per_hour else ")"
    note += f"; {found.units} {found.device} unit{'s' if found.units != 1 else ''}."
    return Table("Receipt", header, rows, note, ("bought",), total=True)


def shares_table(found: Sequence[Share]) -> Table:
    """Where the device time went, beside DeepSeek's published hours (V3 and R1 together)."""
    rows = tuple(
        (s.part, duration(s.seconds), f"{100 * s.ours:.1f} %" if s.ours is not None else "",
         f"{s.their_hours / 1e3:,.0f} K", f"{100 * s.theirs:.1f} %") for s in found
    )  # fmt: skip
    note = "Theirs: H800 hours of DeepSeek-V3 and R1, published. Tokenizer is in pretraining, eval and export left out."
    return Table("Share of the cost", ("part", "ours", "share", "theirs, H800 h", "share"), rows, note)


shares_of = lambda run, found: shares(found, kinds=kinds_of(run))
