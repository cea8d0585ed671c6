"""Writes the table of measured runs into README.md, from the runs' own logs.

python scripts/readme_table.py runs/cpu runs/gpu1 …      # rewrites what stands between the markers
python scripts/readme_table.py --print runs/cpu          # prints it
"""

import sys
from pathlib import Path

from nomoat.config import UserError
from nomoat.ledger import duration, short
from nomoat.report.receipt import kinds_of, money, receipt_of, scores_of
from nomoat.run import Run

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- runs: begin -->", "<!-- runs: end -->"


HEADER = (
    "run", "seed", "hardware", "parameters (active)", "bits per byte, en / de (best n-gram)",
    "right answers, sampled: SFT, RL, student", "device time", "energy", "money",
)  # fmt: skip


def table(runs: list[Run]) -> str:
    """Markdown: a row per run, a footnote for where the figures are from."""
    lines = [
        "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER),
        *map(row, runs),
    ]
    commits = sorted({(run.record.get("commit") or "unknown")[:12] for run in runs})
    return "\n".join([*lines, "", f"Commit {', '.join(commits)}; energy as each run's receipt says."])


def row(run: Run) -> str:
    receipt, scores, kinds = receipt_of(run), scores_of(run.events()), kinds_of(run)
    outputs = {e["stage"]: e["outputs"] for e in run.events("stage_end")}
    spec = next((o["spec"] for o in outputs.values() if o.get("spec")), None)
    if not outputs or spec is None:
        raise UserError(f"{run.root} has not got beyond its tokenizer; expected a finished run; finish it first")
    from nomoat.model.spec import ModelSpec

    shape = ModelSpec.model_validate(spec)
    base = next((m for m in scores.bits if kinds.get(m) == "pretrain"), None)
    grams = [m for m in scores.bits if m.endswith("-gram")]
    bits = " / ".join(
        f"{scores.bits[base][lang]:.3f} ({min(scores.bits[g][lang] for g in grams):.3f})"
        for lang in ("en", "de") if base and lang in scores.bits[base] and grams
    )  # fmt: skip
    last = {
        kind: next((m for m in reversed(scores.models) if kinds.get(m) == kind), None)
        for kind in ("sft", "rl", "distill")
    }
    right = ", ".join(f"{100 * scores.accuracy['sampled'][m]['mean'].value:.0f} %" if m else "-" for m in last.values())
    total = receipt.total
    cells = (
        run.recipe.get("name", run.root.name), str(run.seed), f"{receipt.units} x {receipt.device}",
        f"{short(shape.params_total()).strip()} ({short(shape.params_active()).strip()})", bits or "-", right,
        duration(total.device_seconds), f"{short(total.joules)}J {total.joules_source}",
        f"{money(total.money)} {total.currency}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main(words: list[str]) -> int:
    only_print = "--print" in words
    places = [word for word in words if word != "--print"]
    if not places:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        text = table([Run.open(place) for place in places])
    except UserError as error:
        print(f"readme_table: {error}", file=sys.stderr)
        return 2
    if only_print:
        print(text)
        return 0
    before, begin, rest = README.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        print(f"{README} lacks {BEGIN} or {END}; expected both", file=sys.stderr)
        return 2
    README.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")
    print(README)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
