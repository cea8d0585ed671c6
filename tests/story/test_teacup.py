"""R1-Zero's two curves in small, from a right/wrong reward alone: accuracy rises and the answers grow longer."""

import pytest

from nomoat.config import read_recipe
from nomoat.plan.budget import resolve
from nomoat.run.directory import Run
from nomoat.run.stop import Stop
from nomoat.stages.pipeline import run_stages


@pytest.mark.check
def test_a_model_that_answers_at_once_learns_to_think(tmp_path, request):
    recipe = resolve(read_recipe(request.config.rootpath / "recipes" / "teacup.toml"))
    run = Run.create(tmp_path / "teacup", recipe.table)
    with Stop() as stop, run.locked():
        run_stages(run, recipe, stop)
    greedy = {}
    for event in run.events("score"):
        if event["name"] == "accuracy/greedy":
            greedy.setdefault(event["model"], []).append(event["value"])
    assert max(greedy["pretrain"]) < 0.65  # a coin
    assert min(greedy["rl"]) >= 0.97
    lengths = [e["length"] for e in run.curve("rl")]
    assert sum(lengths[-5:]) > 3 * sum(lengths[:5])
