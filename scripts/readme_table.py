"""Writes the tables of measured runs and comparisons into README.md, from what they left.

python scripts/readme_table.py runs/cpu runs/gpu1 …      # rewrites what stands between the markers
python scripts/readme_table.py runs/compare              # the same for a finished `nomoat compare`
python scripts/readme_table.py --print runs/cpu          # prints it
"""

import json
import sys
from pathlib import Path

from nomoat.config import UserError
from nomoat.lab.compare import tables
from nomoat.report.receipt import kinds_of, receipt_of
from nomoat.report.scores import scores_of
from nomoat.run.directory import Run
from nomoat.run.ledger import duration, money, short

README = Path(__file__).resolve().parents[1] / "README.md"
MARKS = "<!-- {}: begin -->", "<!-- {}: end -->"

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
        raise UserError(
            f"{run.root} has not got beyond its tokenizer; expected a finished run; finish it first"
        )
    from nomoat.model import counts
    from nomoat.model.spec import Spec

    shape = Spec.model_validate(spec)
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
    right = ", ".join(
        f"{100 * scores.accuracy['sampled'][m]['mean'].value:.0f} %" if m else "-" for m in last.values()
    )
    total = receipt.total
    cells = (
        run.recipe.get("name", run.root.name), str(run.seed), f"{receipt.units} x {receipt.device}",
        f"{short(counts.params_total(shape)).strip()} ({short(counts.params_active(shape)).strip()})", bits or "-", right,
        duration(total.device_seconds), f"{short(total.joules)}J {total.joules_source}",
        f"{money(total.money)} {total.currency}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def comparison(place: Path) -> str:
    """Markdown: the factors against each baseline, and where they come from."""
    found = json.loads((place / "compare.json").read_text("utf-8"))
    parts = []
    for shown in tables(found)[1:]:
        rows = [
            "| " + " | ".join(cells) + " |"
            for cells in (shown.header, ["---"] * len(shown.header), *shown.rows)
        ]
        parts += [f"{shown.title}:", "", *rows, "", shown.note, ""]
    setting = found["setting"]
    command = f"`nomoat compare --budget {setting['seconds']:g}s`"
    return "\n".join([*parts, f"{command}, {setting['device']}; commit, machine and arms in LOG.md."])


def main(words: list[str]) -> int:
    places = [Path(word) for word in words if word != "--print"]
    if not places:
        print(__doc__, file=sys.stderr)
        return 2
    compared = [place for place in places if (place / "compare.json").exists()]
    ran = [place for place in places if place not in compared]
    texts = {"factor": "\n".join(map(comparison, compared))} if compared else {}
    try:
        texts |= {"runs": table([Run.open(place) for place in ran])} if ran else {}
    except UserError as error:
        print(f"readme_table: {error}", file=sys.stderr)
        return 2
    if "--print" in words:
        print("\n\n".join(texts.values()))
        return 0
    page = README.read_text("utf-8")
    for name, text in texts.items():
        begin, end = (mark.format(name) for mark in MARKS)
        before, found_begin, rest = page.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found_begin or not found_end:
            print(f"{README} lacks {begin} or {end}; expected both", file=sys.stderr)
            return 2
        page = f"{before}{begin}\n{text}\n{end}{after}"
    README.write_text(page, "utf-8")
    print(README)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
