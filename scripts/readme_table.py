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
from nomoat.model.counts import params_active, params_total
from nomoat.model.spec import Spec
from nomoat.report.receipt import kinds_of, receipt_of
from nomoat.report.scores import scores_of
from nomoat.run.directory import Run
from nomoat.run.ledger import duration, money, short

README = Path(__file__).resolve().parents[1] / "README.md"
MARKS = "<!-- {}: begin -->", "<!-- {}: end -->"

LANGUAGES = ("en", "de")
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
    receipt = receipt_of(run)
    outputs = [event["outputs"] for event in run.events("stage_end")]
    specs = [output["spec"] for output in outputs if output.get("spec")]
    if not specs:
        raise UserError(
            f"{run.root} has not got beyond its tokenizer; expected a finished run; finish it first"
        )
    spec, total = Spec.model_validate(specs[0]), receipt.total
    params, active = short(params_total(spec)), short(params_active(spec))
    cells = (
        run.recipe.get("name", run.root.name),
        str(run.seed),
        f"{receipt.units} x {receipt.device}",
        f"{params} ({active})",
        bits(run) or "-",
        right_answers(run),
        duration(total.device_seconds),
        f"{short(total.joules)}J {total.joules_source}",
        f"{money(total.money)} {total.currency}",
    )
    return "| " + " | ".join(cells) + " |"


def bits(run: Run) -> str:
    """Of the pretrained model in each language, and of the best n-gram."""
    scores, kinds = scores_of(run.events()).bits, kinds_of(run)
    base = next((model for model in scores if kinds.get(model) == "pretrain"), None)
    grams = [model for model in scores if model.endswith("-gram")]
    if base is None or not grams:
        return ""
    texts = []
    for lang in LANGUAGES:
        if lang in scores[base]:
            best = min(scores[gram][lang] for gram in grams)
            texts.append(f"{scores[base][lang]:.3f} ({best:.3f})")
    return " / ".join(texts)


def right_answers(run: Run) -> str:
    """Of the last model of each kind."""
    sampled, kinds = scores_of(run.events()).accuracy["sampled"], kinds_of(run)
    texts = []
    for kind in ("sft", "rl", "distill"):
        models = [model for model in sampled if kinds.get(model) == kind]
        share = sampled[models[-1]]["mean"].value if models else None
        texts.append("-" if share is None else f"{100 * share:.0f} %")
    return ", ".join(texts)


def comparison(place: Path) -> str:
    """Markdown: the factors against each baseline, and where they come from."""
    comparison = json.loads((place / "compare.json").read_text("utf-8"))
    parts = []
    for shown in tables(comparison)[1:]:
        rows = [
            "| " + " | ".join(cells) + " |"
            for cells in (shown.header, ["---"] * len(shown.header), *shown.rows)
        ]
        parts += [f"{shown.title}:", "", *rows, "", shown.note, ""]
    setting = comparison["setting"]
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
        before, has_begin, rest = page.partition(begin)
        _, has_end, after = rest.partition(end)
        if not has_begin or not has_end:
            print(f"{README} lacks {begin} or {end}; expected both", file=sys.stderr)
            return 2
        page = f"{before}{begin}\n{text}\n{end}{after}"
    README.write_text(page, "utf-8")
    print(README)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
