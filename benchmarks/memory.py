"""Peak resident memory of every stage of a recipe.

    python -m benchmarks.memory
    python -m benchmarks.memory recipes/cpu.toml --steps 6 --limit 1.5 --set pretrain.precision=fp32

Stages with steps are cut to a few, rows, prompts, groups and problems stay as they are: what a step holds
at one time does not grow with their number.  A stage's peak is the kernel's high-water mark (VmHWM), set
back at its start, so that what earlier stages left resident counts for later ones too; `left` is what is
resident at its end.  The figures hold on Linux alone.  Exit code 1: a peak was above the limit.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from nomoat.cli import _keep_freed_memory
from nomoat.config import override, read_recipe
from nomoat.run import Run, Stop
from nomoat.stages.pipeline import run_stages
from nomoat.stages.recipe import resolve


def resident(what: str) -> float:
    """GB of this process: `VmHWM` at most since the mark was set back, `VmRSS` now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024 / 1e9


def short(table: dict, steps: int) -> dict:
    """The recipe with at most so many steps of every kind."""
    for stage in table["stages"]:
        for key in ("steps", "policy_steps"):
            if key in stage:
                stage[key] = min(stage[key], steps if key == "steps" else steps // 2)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", type=Path, default=Path("recipes/cpu.toml"))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--limit", type=float, default=1.5, help="GB")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change the recipe")
    args = parser.parse_args()
    table = short(read_recipe(args.recipe), args.steps)
    for text in args.set:
        override(table, text)
    recipe, peaks = resolve(table), []
    _keep_freed_memory()
    print("| stage | peak, GB | left, GB | seconds |\n|---|---|---|---|", flush=True)

    def hear(event: dict) -> None:
        if event["kind"] == "stage_start":
            hear.began = time.perf_counter()
            Path("/proc/self/clear_refs").write_text("5")
        elif event["kind"] == "stage_end":
            peaks.append(resident("VmHWM"))
            seconds = time.perf_counter() - hear.began
            print(
                f"| {event['stage']} | {peaks[-1]:.2f} | {resident('VmRSS'):.2f} | {seconds:.1f} |",
                flush=True,
            )

    with tempfile.TemporaryDirectory() as directory:
        run = Run.create(Path(directory) / "run", recipe.table)
        run.observe = hear
        with Stop() as stop, run.locked():
            run_stages(run, recipe, stop)
    print(f"\nhighest: {max(peaks):.2f} GB; limit {args.limit} GB")
    return 1 if max(peaks) > args.limit else 0


if __name__ == "__main__":
    sys.exit(main())
