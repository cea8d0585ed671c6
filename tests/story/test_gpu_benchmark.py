"""The benchmark for one CUDA card runs through, here on the processor: every part, no law broken."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.check
def test_the_dry_run_goes_through(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry", "--json", tmp_path / "gpu.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())["results"]
    parts = {result["part"] for result in results}
    assert parts == {"environment", "laws", "losses", "training", "decoding", "rl", "energy", "chain"}
    assert all(f"| {result['what']} |" in done.stdout for result in results)


def test_a_part_that_fails_is_a_line_of_the_table():
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "nowhere", "--parts", "laws"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "| laws | the part | FAILED |" in done.stdout
