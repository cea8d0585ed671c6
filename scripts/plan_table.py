"""Writes what the planner predicts beside what was published into docs/plan.md.

python scripts/plan_table.py            # rewrites what stands between the markers
python scripts/plan_table.py --print    # prints it
"""

import dataclasses
import itertools
import sys
from functools import cache
from pathlib import Path

from nomoat.model.counts import params_total
from nomoat.plan.cost import Plan, deepseek_stages, plan_published
from nomoat.plan.faults import DAY, read_rates
from nomoat.plan.hardware import classes, read_hardware, workload
from nomoat.plan.layout import Layout, PricedLayout, price
from nomoat.plan.parts import flops_per_token
from nomoat.plan.published import Published, read_published
from nomoat.plan.replay import endured
from nomoat.run.ledger import duration, read_prices

PAGE = Path(__file__).resolve().parents[1] / "docs" / "plan.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
HIT = 0.10  # what the time model promises
COUNTED = {"weights": "weights alone", "causal": "causal attention", "full": "attention to the whole row"}


Rows = list[tuple[str, ...]]  # the first is the header


@cache
def planned(name: str) -> Plan:
    return plan_published(next(run for run in read_published() if run.name == name))


def off(ours: float, theirs: float | None) -> str:
    return "" if theirs is None else f"{100 * (ours / theirs - 1):+.1f} %"


def flops_of(run: Published) -> float:
    """Our count of what the published count counts: the run where it is one of the run, else a token."""
    token = flops_per_token(run.shape, run.context, run.counted, mtp=False)
    return token * run.tokens if run.flops > 1e15 else token


def counts() -> Rows:
    header = (
        "run",
        "parameters",
        "published",
        "off",
        "FLOPs a token",
        "FLOPs published",
        "counted with",
        "ours",
        "off",
    )
    rows = [header]
    for run in read_published():
        total = params_total(run.shape)
        published = f"{run.params / 1e9:,.4g} B" if run.params else ""
        token = f"{flops_per_token(run.shape, run.context) / 1e9:,.1f} G"
        flops = ("", "", "", "")
        if run.flops:
            ours = flops_of(run)
            flops = (f"{run.flops:.3g}", COUNTED[run.counted], f"{ours:.4g}", off(ours, run.flops))
        rows.append((run.name, f"{total / 1e9:,.3f} B", published, off(total, run.params), token, *flops))
    return rows


def verdict(run: Published) -> str:
    if run.use != "predict":
        return {"fit": "fitted", "shown": "shown"}[run.use]
    hit = abs(planned(run.name).gpu_hours / run.gpu_hours - 1) <= HIT
    return "predicted" if hit else "**missed**"


def hours() -> Rows:
    header = (
        "run",
        "device",
        "tokens",
        "share of the peak (published)",
        "device-hours",
        "published",
        "off",
        "row",
        "note",
    )
    return [header, *(hours_row(run) for run in read_published() if run.gpu_hours)]


def hours_row(run: Published) -> tuple[str, ...]:
    plan = planned(run.name)
    assumed = "" if "gpus" in run.model_fields_set else " assumed"
    by_rate = " by its rate" if run.tokens_per_second else ""
    peak_flops = run.gpu_hours * 3600 * read_hardware().devices[run.gpu].flops_bf16
    digits = 0 if run.gpu_hours > 1000 else 2
    return (
        run.name,
        f"{run.gpu}, {run.gpus:,}{assumed}",
        f"{run.tokens:.4g}",
        f"{100 * plan.mfu:.1f} ({100 * plan.flops_total / peak_flops:.1f}) %",
        f"{plan.gpu_hours:,.{digits}f}",
        f"{run.gpu_hours:,.{digits}f}{by_rate}",
        off(plan.gpu_hours, run.gpu_hours),
        verdict(run),
        run.note,
    )


def best_layouts() -> Rows:
    """The best layouts for the runs whose own is published, and that one as the model sees it."""
    rows = [("run", "layout", "memory a device", "bubble", "communication", "device-hours")]
    for run in read_published():
        if run.layout:
            found, after = planned(run.name).layouts[:2]
            for name, layout in (("found", found), ("next", after), ("theirs", own_layout(run))):
                rows.append(
                    (
                        f"{run.name}, {name}",
                        str(layout),
                        f"{layout.all_bytes / 1e9:.0f} GB",
                        f"{100 * layout.bubble:.1f} %",
                        f"{100 * layout.network:.0f} %",
                        f"{layout.seconds * run.tokens / 3600:,.0f}",
                    )
                )
    return rows


def own_layout(run: Published) -> PricedLayout:
    device, axes = read_hardware().devices[run.gpu], run.layout
    share = classes()[run.mfu_class or device.generation].arithmetic
    data = run.gpus // axes.tensor // axes.pipeline
    schedule = "DualPipe" if axes.expert > 1 else "interleaved"
    layout = Layout(data, axes.tensor, axes.pipeline, axes.expert, schedule=schedule)
    return price(layout, workload(run, device, share))


def faults() -> Rows:
    """The two runs whose layouts are published, with the faults of one of them."""
    header = (
        "run", "devices", "faults counted", "one every", "save every", "spare machines", "effective time",
        "in the long run", "days without", "with faults", "device-hours", "USD",
    )  # fmt: skip
    rows, past = [header], read_rates().interruptions
    for run, counted in itertools.product(read_published(), (False, True)):
        if run.layout:
            plan = planned(run.name)
            one = endured(params_total(run.shape), run.gpus, plan.days * DAY, planned=counted)
            low, mean, high = (f"{seconds / DAY:.1f}" for seconds in dataclasses.astuple(one.replayed))
            rows.append(
                (
                    run.name,
                    f"{run.gpus:,}",
                    f"{past.unexpected + counted * past.planned} in {past.days:.0f} days",
                    duration(one.hazard.mtbf_seconds),
                    duration(one.interval_seconds),
                    f"{one.spares} of {one.n_machines}",
                    f"{100 * one.effective:.1f} %",
                    f"{100 * one.in_the_long_run:.1f} %",
                    f"{plan.days:.1f}",
                    f"{mean} ({low} to {high})",
                    f"{plan.gpu_hours * one.machine_share:,.0f}",
                    f"{plan.usd * one.machine_share:,.0f}",
                )
            )
    return rows


def stages() -> Rows:
    price = read_prices().devices["h800"].per_hour
    rows = [("stage", "H800 hours", "published", "off", "USD", "published")]
    for stage in deepseek_stages():
        ours, theirs = stage.estimated, stage.published
        estimate = (
            ("not estimated", "", "")
            if ours is None
            else (f"{ours:,.0f}", off(ours, theirs), f"{ours * price:,.0f}")
        )
        hours, error, usd = estimate
        rows.append((stage.what, hours, f"{theirs:,.0f}", error, usd, f"{theirs * price:,.0f}"))
    return rows


def fitted() -> Rows:
    rows = [("class", "share of the peak, all in", "while it multiplies", "from")]
    for name, mfu in classes().items():
        if mfu.arithmetic:
            rows.append((name, f"{100 * mfu.value:.1f} %", f"{100 * mfu.arithmetic:.1f} %", mfu.source))
    return rows


def sources() -> str:
    lines = []
    for run in read_published():
        flops = f"; FLOPs: {run.flops_source}" if run.flops_source else ""
        lines.append(f"- {run.name}: {run.source}{flops}.")
    return "\n".join(lines)


def fault_sources() -> str:
    rates = read_rates()
    past, seconds, speeds = rates.interruptions, rates.seconds, rates.bytes_per_second
    return (
        f"{past.source}. Effective training time in that run: {past.effective}. A restart takes "
        f"{seconds.detection:.0f} s to be noticed and {seconds.restart:.0f} s to be up, a repair "
        f"{seconds.repair / DAY:.0f} days ({seconds.source}). Copies: {speeds.source}."
    )


def markdown(rows: Rows) -> str:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def text() -> str:
    """All that stands between the markers."""
    tried = [run for run in read_published() if run.use == "predict"]
    hit = sum(verdict(run) == "predicted" for run in tried)
    score = f"{hit} of {len(tried)} held-out runs come out within {100 * HIT:.0f} % of what was published."
    sections = {
        "Counts": markdown(counts()),
        "Hours": f"{score}\n\n{markdown(hours())}",
        "Classes": markdown(fitted()),
        "Layouts": markdown(best_layouts()),
        "Faults": f"{fault_sources()}\n\n{markdown(faults())}",
        "V3 and R1, stage by stage": markdown(stages()),
        "Sources": sources(),
    }
    return "\n\n".join(f"## {title}\n\n{section}" for title, section in sections.items())


def main(words: list[str]) -> int:
    if words not in ([], ["--print"]):
        print(__doc__, file=sys.stderr)
        return 2
    if words:
        print(text())
        return 0
    before, begin, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        print(f"{PAGE} lacks {BEGIN} or {END}; expected both", file=sys.stderr)
        return 2
    PAGE.write_text(f"{before}{BEGIN}\n{text()}\n{END}{after}", "utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
