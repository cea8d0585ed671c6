"""The table of measured runs is made of what runs left."""

import importlib.util
from pathlib import Path

from nomoat.run.directory import Run

ROOT = Path(__file__).resolve().parents[2]


def test_a_run_is_a_row_with_what_each_kind_of_model_answers(smoke):
    spec = importlib.util.spec_from_file_location("readme_table", ROOT / "scripts" / "readme_table.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    run = Run.open(smoke.root)
    sampled = {
        event["model"]: event["value"]
        for event in run.events("score")
        if event["name"] == "accuracy/sampled" and event["family"] == "lamp"
    }
    assert {"sft", "rl", "distill"} <= set(sampled)
    assert script.right_answers(run).count("%") == 3
    assert script.table([run]).splitlines()[2].startswith("| smoke | 0 |")
