"""The transfer report of a run: its suite follows from the recipe; what was measured is not done again."""

import json
from types import SimpleNamespace

import pytest

from nomoat.evals.rings import Config
from nomoat.lab import transfer
from nomoat.run.directory import Run

CONFIG = Config(before="sft", after="rl", quick=True, problems=4, unseen=["weekday"])
STAGES = {
    "tokenizer": SimpleNamespace(kind="tokenizer"),
    "sft": SimpleNamespace(kind="sft", tasks={"addition": [2, 3]}),
    "rl": SimpleNamespace(kind="rl", tasks={"addition": [2]}),
}
RECIPE = SimpleNamespace(stages=tuple(STAGES.values()), stage=STAGES.__getitem__)


def test_the_suite_is_about_what_the_stage_trained_and_knows_what_any_stage_showed():
    items = transfer.suite_of(CONFIG, RECIPE).items
    assert {i.exercise.level for i in items if i.ring == "R0"} == {2}
    assert {i.exercise.level for i in items if i.part == "harder, shown worked"} == {3}


@pytest.fixture
def run(tmp_path):
    run = Run.create(tmp_path / "run", {"name": "r", "stages": []})
    result = {"config": CONFIG.model_dump(), "suite": transfer.suite_of(CONFIG, RECIPE).fingerprint}
    (run.root / "transfer-quick.json").write_text(json.dumps(result), encoding="utf-8")
    return run


def test_other_weights_are_measured_again(run, monkeypatch):
    monkeypatch.setattr(transfer, "measure", lambda *_: {"measured": "again"})
    result = json.loads((run.root / "transfer-quick.json").read_text("utf-8")) | {"weights": {"rl": "old"}}
    (run.root / "transfer-quick.json").write_text(json.dumps(result), encoding="utf-8")
    assert transfer.measured(run, CONFIG, RECIPE) == {"measured": "again", "weights": {}}


def test_what_was_measured_is_not_measured_again(run, monkeypatch):
    monkeypatch.setattr(transfer, "measure", lambda *_: {"measured": "again"})
    assert transfer.measured(run, CONFIG, RECIPE)["config"] == CONFIG.model_dump()
    other = CONFIG.model_copy(update={"seed": 2})
    again = {"measured": "again", "weights": {}}
    assert transfer.measured(run, other, RECIPE) == again
    assert json.loads((run.root / "transfer-quick.json").read_text("utf-8")) == again
