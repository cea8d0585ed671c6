"""The whole chain of recipes/smoke.toml on the device, by the command line; its losses beside the recorded ones."""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.gpu.measure import Place, Result

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "story" / "golden.json"
FASTER = {'precision = "fp32"': 'precision = "bf16"', 'attention = "plain"': 'attention = "fused"',
          'experts = "wide"': 'experts = "sorted"'}  # fmt: skip


def chain(place: Place) -> Iterator[Result]:
    """As it stands, then in bf16 with the kernels that a card prefers."""
    yield from run(place, "smoke.toml", {}, compared=True)
    if not place.dry:
        yield from run(place, "smoke.toml, bf16, fused attention, sorted experts", FASTER, compared=False)


def run(place: Place, name: str, changes: Mapping[str, str], compared: bool) -> Iterator[Result]:
    text = (ROOT / "recipes" / "smoke.toml").read_text("utf-8")
    for old, new in {**changes, 'device = "cpu"': f'device = "{place.device.type}"'}.items():
        text = text.replace(old, new)
    with tempfile.TemporaryDirectory() as scratch:
        recipe = Path(scratch, "smoke.toml")
        recipe.write_text(text, "utf-8")
        command = [sys.executable, "-m", "nomoat", "run", recipe, "--out", Path(scratch, "run")]
        start = time.perf_counter()
        env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=scratch)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"exit {done.returncode}: {done.stderr[-1500:]}")
        events = Path(scratch, "run", "events.jsonl").read_text("utf-8").splitlines()
    finished = [e["stage"] for e in map(json.loads, events) if e["kind"] == "stage_end"]
    yield Result("chain", f"{name}", seconds, "s", f"finished: {', '.join(finished)}")
    if compared:
        yield from beside_golden([e for e in map(json.loads, events) if e["kind"] == "step"])


def beside_golden(steps: list[dict]) -> Iterator[Result]:
    """The largest relative difference of a loss in each stage.  Sampled ids part at the first rounding that decides."""
    recorded = json.loads(GOLDEN.read_text("utf-8"))
    gaps: dict[str, float] = {}
    for step, (stage, _, loss, _) in zip(steps, recorded["steps"]):
        gaps[stage] = max(gaps.get(stage, 0.0), abs(step["loss"] - loss) / max(abs(loss), 1e-3))
    for stage, gap in gaps.items():
        note = f"golden.json: torch {recorded['machine']['torch']}, {recorded['machine']['processor']}"
        yield Result("chain", f"losses of {stage} beside the recorded", gap if math.isfinite(gap) else "not finite", "", note)
