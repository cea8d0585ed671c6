"""The whole chain of recipes/smoke.toml on the device, by the command line; losses beside recorded ones."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.gpu.measure import Place, Result

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "story" / "golden.json"
FASTER = {
    'precision = "fp32"': 'precision = "bf16"',
    'attention = "plain"': 'attention = "fused"',
    'experts = "wide"': 'experts = "sorted"',
}


def chain(place: Place) -> Iterator[Result]:
    """As it stands, then in bf16 with the kernels that a card prefers."""
    yield from run(place, "smoke.toml", {}, compared=True)
    if not place.dry:
        yield from run(place, "smoke.toml, bf16, fused attention, sorted experts", FASTER, compared=False)


def run(place: Place, name: str, changes: Mapping[str, str], compared: bool) -> Iterator[Result]:
    text = (ROOT / "recipes" / "smoke.toml").read_text("utf-8")
    for old, new in {**changes, 'device = "cpu"': f'device = "{place.device.type}"'}.items():
        text = text.replace(old, new)
    start = time.perf_counter()
    events = events_of(text)
    seconds = time.perf_counter() - start
    finished = ", ".join(event["stage"] for event in events if event["kind"] == "stage_end")
    yield Result("chain", name, seconds, "s", f"finished: {finished}")
    if not compared:
        return
    steps = [event for event in events if event["kind"] == "step"]
    yield from beside_golden(steps)


def events_of(recipe: str) -> list[dict]:
    """The log of a run of this recipe; RuntimeError with the end of its complaint where it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        path, out = Path(scratch, "recipe.toml"), Path(scratch, "run")
        path.write_text(recipe, "utf-8")
        command = [sys.executable, "-m", "nomoat", "run", path, "--out", out]
        done = subprocess.run(command, capture_output=True, text=True, cwd=scratch)
        if done.returncode:
            raise RuntimeError(f"exit {done.returncode}: {done.stderr[-1500:]}")
        return [json.loads(line) for line in (out / "events.jsonl").read_text("utf-8").splitlines()]


def beside_golden(steps: list[dict]) -> Iterator[Result]:
    """The largest relative difference of a loss in each stage; where ids are sampled they soon differ."""
    recorded = json.loads(GOLDEN.read_text("utf-8"))
    note = f"recorded on {recorded['machine']}"
    gaps: dict[str, float] = {}
    for step, (stage, _, expected, _) in zip(steps, recorded["steps"]):
        apart = relative(step["loss"], expected)
        gaps[stage] = max(gaps.get(stage, 0.0), apart)
    for stage, largest in gaps.items():
        what = f"losses of {stage} beside the recorded"
        yield Result("chain", what, largest, "", note)


def relative(found: float, expected: float) -> float:
    return abs(found - expected) / max(abs(expected), 1e-3)
