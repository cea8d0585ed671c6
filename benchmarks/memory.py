"""Peak resident memory of `nomoat run`, stage by stage, as the kernel counts it.

    python -m benchmarks.memory
    python -m benchmarks.memory recipes/cpu.toml --steps 0 --limit 1.5 --set pretrain.precision=fp32

The command itself runs, from its start to its report, in a process of its own.  Stages with steps are cut to
a few; rows, prompts, groups and problems stay as they are: what a step holds at one time does not grow with
the number of steps.  A stage's peak is the kernel's high-water mark (VmHWM), set back when the log says that
the stage starts; `left` is what is resident when it ends.  "outside" is what comes before, between and after
the stages.  The highest is that of any one process: programs in the sandbox are watched too, not added up.
The figures hold on Linux alone.  Exit code 1: the highest was above the limit, or the command failed.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nomoat.config import read_recipe

LOOK_SECONDS = 0.01
OUTSIDE = "outside"


class Watched:
    """A process whose high-water mark is read and set back."""

    def __init__(self, pid: int) -> None:
        self.place = Path(f"/proc/{pid}")
        self.peaks: dict[str, float] = {}  # stage -> GB

    def resident(self, what: str) -> float:
        """GB: `VmHWM` at most since the mark was set back, `VmRSS` now; 0 for a process that has ended."""
        lines = (self.place / "status").read_text().splitlines()
        kilobytes = next((line.split()[1] for line in lines if line.startswith(what)), "0")
        return int(kilobytes) * 1024 / 1e9

    def look(self, stage: str) -> None:
        self.peaks[stage] = max(self.peaks.get(stage, 0.0), self.resident("VmHWM"))

    def set_back(self) -> None:
        (self.place / "clear_refs").write_text("5")


class Tail:
    """The events that a log got since the last look."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset = path, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as log:
            log.seek(self.offset)
            *lines, _ = log.read().split(b"\n")
        for line in lines:
            self.offset += len(line) + 1
            yield json.loads(line)


def follow(process: subprocess.Popen, log: Path) -> dict[str, float]:
    """Peak of each stage, until the process ends; a row of the table as each of them does."""
    watched, events = Watched(process.pid), Tail(log)
    stage, began = OUTSIDE, time.perf_counter()
    while process.poll() is None:
        watched.look(stage)
        for event in events:
            if event["kind"] == "stage_start":
                stage, began = event["stage"], time.perf_counter()
                watched.set_back()
            elif event["kind"] == "stage_end":
                seconds = time.perf_counter() - began
                row = f"{watched.peaks[stage]:.2f} | {watched.resident('VmRSS'):.2f} | {seconds:.1f}"
                print(f"| {stage} | {row} |", flush=True)
                stage = OUTSIDE
                watched.set_back()
            watched.look(stage)
        time.sleep(LOOK_SECONDS)
    return watched.peaks


def cuts(recipe: Path, steps: int) -> Iterator[str]:
    """The settings that leave each stage of a recipe so many steps at most."""
    for stage in read_recipe(recipe)["stages"]:
        name = stage.get("name", stage["kind"])
        for key, most in (("steps", steps), ("policy_steps", steps // 2)):
            if stage.get(key, 0) > most:
                yield f"{name}.{key}={most}"


def peak_of(recipe: Path, settings: Sequence[str]) -> float:
    """GB at most at one time, in any stage or process of the command."""
    with tempfile.TemporaryDirectory() as scratch:
        out, complaints = Path(scratch) / "run", Path(scratch) / "stderr"
        command = [sys.executable, "-m", "nomoat", "run", str(recipe), "--out", str(out)]
        if settings:
            command += ["--set", *settings]
        with complaints.open("w") as stderr:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
            try:
                peaks = follow(process, out / "events.jsonl")
            finally:
                process.kill()
                process.wait()
        if process.returncode:
            raise SystemExit(f"exit {process.returncode}: {complaints.read_text()[-1500:]}")
    print(f"| {OUTSIDE} | {peaks[OUTSIDE]:.2f} | | |")
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    return max(children, *peaks.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", type=Path, default=Path("recipes/cpu.toml"))
    parser.add_argument("--steps", type=int, default=6, help="of a stage at most; 0: all")
    parser.add_argument("--limit", type=float, default=1.5, help="GB")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="change the recipe")
    args = parser.parse_args()
    settings = args.set
    if args.steps:
        settings = [*cuts(args.recipe, args.steps), *args.set]
    print("| stage | peak, GB | left, GB | seconds |\n|---|---|---|---|", flush=True)
    highest = peak_of(args.recipe, settings)
    print(f"\nhighest: {highest:.2f} GB; limit {args.limit} GB")
    return 1 if highest > args.limit else 0


if __name__ == "__main__":
    sys.exit(main())
