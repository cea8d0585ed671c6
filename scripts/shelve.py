"""Puts the models of a finished run on the shelf that ships with the package, and lists them in DATA.md.

python scripts/shelve.py runs/evening                    # base, sft, rl and student, as bf16
python scripts/shelve.py runs/evening --name evening --stages sft rl
python scripts/shelve.py --table                         # writes the table of DATA.md alone

The default, which a chat without a name opens, is the best evaluated of kind rl or distill.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nomoat.config import ConfigError, JsonObject, UserError
from nomoat.model.counts import params_active, params_total
from nomoat.model.spec import Spec
from nomoat.report.receipt import kinds_of, receipt_of
from nomoat.report.scores import scores_of
from nomoat.report.standing import standings
from nomoat.run.directory import Run
from nomoat.run.ledger import duration
from nomoat.serve import exporting, loading
from nomoat.weights.shelf import FILE, SHELF, shelved

PAGE = Path(__file__).resolve().parents[1] / "DATA.md"
BEGIN, END = "<!-- shelf: begin -->", "<!-- shelf: end -->"
MOST_BYTES = 16_000_000  # of all that ships
WHAT = {
    "pretrain": "base",
    "extend": "base",
    "sft": "fine-tuned on worked solutions and talk",
    "rl": "reinforced",
    "distill": "student",
}


def chosen(run: Run) -> list[str]:
    """The last finished stage of each kind; of base models the one with the longer context alone."""
    kinds = kinds_of(run)
    last = {kinds[name]: name for name in run.all_weights() if kinds.get(name) in WHAT}
    if "extend" in last:
        last.pop("pretrain", None)
    return list(last.values())


def default_of(run: Run, stages: Sequence[str]) -> str:
    """The best evaluated of those that were reinforced or taught by such a one, else the last."""
    kinds = kinds_of(run)
    sampled = scores_of(run.events()).accuracy["sampled"]
    able = [name for name in stages if kinds[name] in ("rl", "distill") and name in sampled]
    return max(able, key=lambda name: sampled[name]["mean"].value) if able else stages[-1]


def facts_of(run: Run, stage: str, place: Path, standing: JsonObject) -> JsonObject:
    """What lists of models and DATA.md say of a stage."""
    spec = Spec.model_validate(run.all_weights()[stage].spec).changed(n_mtp=0)
    mean = scores_of(run.events()).accuracy["sampled"].get(stage, {}).get("mean")
    weights = place / "model.safetensors"
    return {
        "what": WHAT[kinds_of(run)[stage]],
        "kind": kinds_of(run)[stage],
        **standing,
        "parameters": params_total(spec),
        "active": params_active(spec),
        "bytes": weights.stat().st_size,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "right": mean and mean.value,
        "licence": "Apache-2.0",
    }


def shelve(run: Run, name: str, stages: Sequence[str], shelf: Path) -> Path:
    """Everything in a new place first: what is there stays until the new is whole and small enough."""
    shelf.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shelf, prefix=".") as scratch:
        place = Path(scratch) / name
        facts, standing = {}, standings(run, stages)
        for number, stage in enumerate(stages):
            exporting.directory(loading.load(run.root, stage), place / stage, "bf16")
            facts[stage] = {"place": number, **facts_of(run, stage, place / stage, standing[stage])}
        bill = receipt_of(run)
        made = {
            "recipe": run.recipe.get("name"),
            "seed": run.seed,
            "commit": run.record.get("commit"),
            "device": f"{bill.units} x {bill.device}",
            "device_seconds": round(bill.total.device_seconds, 1),
        }
        table = {"default": default_of(run, stages), **made, "stages": facts}
        (place / FILE).write_text(json.dumps(table, indent=1) + "\n", "utf-8")
        others = [path for path in shelf.iterdir() if path.name != name and not path.name.startswith(".")]
        n_bytes = sum(map(size, [place, *others]))
        if n_bytes > MOST_BYTES:
            each = ", ".join(f"{stage} {size(place / stage):,}" for stage in stages)
            raise ConfigError(
                f"the shelf would hold {n_bytes:,} bytes ({each}); expected {MOST_BYTES:,} at most; choose "
                "fewer --stages"
            )
        shutil.rmtree(shelf / name, ignore_errors=True)
        return place.rename(shelf / name)


def size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def table(shelf: Path) -> str:
    """Markdown: a row for each file of weights that ships."""
    found = shelved(shelf)
    if not found:
        return "None ship yet."
    rows = [
        ("model", "what", "parameters", "bytes", "right answers, sampled", "licence", "sha256 of weights"),
        ("---", "---", "---:", "---:", "---:", "---", "---"),
    ]
    for one in found:
        facts = one.facts
        right = "" if facts["right"] is None else f"{100 * facts['right']:.1f} %"
        figures = f"{facts['parameters']:,}", f"{facts['bytes']:,}", right
        rows.append((one.name, facts["what"], *figures, facts["licence"], facts["sha256"]))
    notes = []
    for model in dict.fromkeys(one.model for one in found):
        made = json.loads((shelf / model / FILE).read_text("utf-8"))
        notes.append(
            f"{model}: recipe `{made['recipe']}`, seed {made['seed']}, commit "
            f"{(made['commit'] or 'unknown')[:12]}, {duration(made['device_seconds'])} on {made['device']};\n"
            "numbers in bf16; trained on the text above and on tasks that a program makes."
        )
    return "\n".join([*("| " + " | ".join(row) + " |" for row in rows), "", *notes])


def write_table(page: Path, shelf: Path) -> None:
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"{page} lacks {BEGIN} or {END}; expected both; restore them")
    page.write_text(f"{before}{BEGIN}\n{table(shelf)}\n{END}{after}", "utf-8")


def main(words: list[str], shelf: Path = SHELF, page: Path = PAGE) -> int:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--name", help="on the shelf (default: that of the recipe)")
    parser.add_argument("--stages", nargs="+", help="whose weights (default: base, sft, rl, student)")
    parser.add_argument("--table", action="store_true", help="write the table of DATA.md alone")
    asked = parser.parse_args(words)
    if (asked.run is None) == (not asked.table):
        parser.error("expected a run, or --table alone")
    try:
        if asked.run is not None:
            run = Run.open(asked.run)
            stages = [run.weights(stage).stage for stage in asked.stages or chosen(run)]
            print(shelve(run, asked.name or str(run.recipe["name"]), stages, shelf))
        write_table(page, shelf)
    except UserError as error:
        print(f"shelve: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
