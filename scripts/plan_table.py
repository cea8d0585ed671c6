"""Writes what the planner predicts beside what was published into docs/plan.md.

python scripts/plan_table.py            # rewrites what stands between the markers
python scripts/plan_table.py --print    # prints it
"""

import sys
from pathlib import Path

from nomoat.plan.cost import Published, deepseek_stages, read_hardware, read_published
from nomoat.plan.layout import Layout, priced
from nomoat.plan.shape import flops_per_token, parts
from nomoat.run.ledger import read_prices

PAGE = Path(__file__).resolve().parents[1] / "docs" / "plan.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
HIT = 0.10  # what the time model promises
COUNTED = {"weights": "weights alone", "causal": "causal attention", "full": "attention to the whole row"}


def off(ours: float, theirs: float | None) -> str:
    return "" if theirs is None else f"{100 * (ours / theirs - 1):+.1f} %"


def flops_of(run: Published) -> float:
    """Our count of what the published count counts: the run where it is one of the run, else a token."""
    return flops_per_token(run.shape, run.context, run.counted, mtp=False) * (run.tokens if run.flops > 1e15 else 1)


def counts() -> list[tuple[str, ...]]:
    rows = [("run", "parameters", "published", "off", "FLOPs a token", "FLOPs published", "counted with", "ours", "off")]
    for run in read_published():
        total = run.shape.params_total()
        known = ("", "", "", "")
        if run.flops:
            known = f"{run.flops:.3g}", COUNTED[run.counted], f"{flops_of(run):.4g}", off(flops_of(run), run.flops)
        params = f"{run.params / 1e9:,.4g} B" if run.params else ""
        token = f"{flops_per_token(run.shape, run.context) / 1e9:,.1f} G"
        rows.append((run.name, f"{total / 1e9:,.3f} B", params, off(total, run.params), token, *known))
    return rows


def verdict(run: Published) -> str:
    if run.use != "predict":
        return {"fit": "fitted", "shown": "shown"}[run.use]
    return "predicted" if abs(run.plan().gpu_hours / run.gpu_hours - 1) <= HIT else "**missed**"


def hours() -> list[tuple[str, ...]]:
    rows = [("run", "device", "tokens", "share of the peak (published)", "device-hours", "published", "off", "row", "note")]
    for run in (run for run in read_published() if run.gpu_hours):
        plan, cards = run.plan(), f"{run.gpus:,}" if "gpus" in run.model_fields_set else f"{run.gpus:,} assumed"
        share = plan.flops_total / (run.gpu_hours * 3600 * read_hardware().devices[run.gpu].flops_bf16)
        digits = 0 if run.gpu_hours > 1000 else 2
        published = f"{run.gpu_hours:,.{digits}f}" + (" by its rate" if run.tokens_per_second else "")
        figures = f"{100 * plan.mfu:.1f} ({100 * share:.1f}) %", f"{plan.gpu_hours:,.{digits}f}", published
        rows.append((run.name, f"{run.gpu}, {cards}", f"{run.tokens:.4g}", *figures, off(plan.gpu_hours, run.gpu_hours),
                     verdict(run), run.note))  # fmt: skip
    return rows


def found_layouts() -> list[tuple[str, ...]]:
    """The best layouts for the runs whose own is published, and that one as the model sees it."""
    rows = [("run", "layout", "memory a device", "bubble", "communication", "device-hours")]
    for run in (run for run in read_published() if run.layout):
        plan, device = run.plan(), read_hardware().devices[run.gpu]
        tensor, pipeline, expert = run.layout
        share = read_hardware().mfu[run.mfu_class or device.generation].arithmetic
        theirs = Layout(run.gpus // tensor // pipeline, tensor, pipeline, expert,
                        schedule="DualPipe" if expert > 1 else "interleaved")  # fmt: skip
        flops = flops_per_token(run.shape, run.context)
        theirs = priced(parts(run.shape, flops), theirs, device, share, run.batch / run.context, run.context,
                        run.activation_bytes)  # fmt: skip
        for name, x in (("found", plan.layouts[0]), ("next", plan.layouts[1]), ("theirs", theirs)):
            rows.append((f"{run.name}, {name}", str(x), f"{x.all_bytes / 1e9:.0f} GB", f"{100 * x.bubble:.1f} %",
                         f"{100 * x.network:.0f} %", f"{x.seconds * run.tokens / 3600:,.0f}"))  # fmt: skip
    return rows


def stages() -> list[tuple[str, ...]]:
    price = read_prices().devices["h800"].per_hour
    usd = lambda hours: f"{hours * price:,.0f}"
    rows = [("stage", "H800 hours", "published", "off", "USD", "published")]
    for what, ours, theirs in deepseek_stages():
        mine = ("not estimated", f"{theirs:,.0f}", "", "") if ours is None else (
            f"{ours:,.0f}", f"{theirs:,.0f}", off(ours, theirs), usd(ours))  # fmt: skip
        rows.append((what, *mine, usd(theirs)))
    return rows


def classes() -> list[tuple[str, ...]]:
    rows = [("class", "share of the peak, all in", "while it multiplies", "from")]
    for name, mfu in read_hardware().mfu.items():
        if mfu.arithmetic:
            rows.append((name, f"{100 * mfu.value:.1f} %", f"{100 * mfu.arithmetic:.1f} %", mfu.source))
    return rows


def sources() -> str:
    flops = lambda run: f"; FLOPs: {run.flops_source}" if run.flops_source else ""
    return "\n".join(f"- {run.name}: {run.source}{flops(run)}." for run in read_published())


def markdown(rows: list[tuple[str, ...]]) -> str:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def text() -> str:
    """All that stands between the markers."""
    tried = [run for run in read_published() if run.use == "predict"]
    hit = sum(verdict(run) == "predicted" for run in tried)
    parts_of_page = (
        "## Counts", markdown(counts()),
        "## Hours", f"{hit} of {len(tried)} held-out runs come out within {100 * HIT:.0f} % of what was published.",
        markdown(hours()),
        "## Classes", markdown(classes()),
        "## Layouts", markdown(found_layouts()),
        "## V3 and R1, stage by stage", markdown(stages()),
        "## Sources", sources(),
    )  # fmt: skip
    return "\n\n".join(parts_of_page)


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
