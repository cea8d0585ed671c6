"""The controls get the FLOPs that the training took, as the log of the run says them."""

import pytest

from nomoat.config import ConfigError
from nomoat.lab.controls import NAMES, with_controls
from nomoat.plan.budget import resolve
from nomoat.run.directory import Run

STAGES = [
    {"kind": "tokenizer", "vocab_size": 300},
    {
        "kind": "pretrain",
        "steps": 3,
        "rows": 2,
        "shares": {"prose": 0.5, "tasks": 0.5},
        "tasks": {"lamp": [4]},
    },
    {"kind": "rl", "steps": 4, "prompts": 8, "group": 4, "tasks": {"lamp": [4]}},
    {"kind": "eval", "tasks": {"lamp": [4]}},
]


@pytest.fixture
def run(tmp_path):
    models = {"main": {"preset": "deepseek-v2-lite", "vocab_size": 300}}
    with Run.create(
        tmp_path / "r", resolve({"name": "t", "models": models, "stages": STAGES}).table
    ).locked() as run:
        for stage, steps, flops in (("pretrain", 3, 10**12), ("rl", 4, 50 * 10**12)):
            run.log("stage_start", stage=stage, device="cpu", units=1)
            for step in range(1, steps + 1):
                spent = {"seconds": 1.0, "joules": 1.0, "joules_source": "estimated"}
                counted = {"tokens": 9, "length": 5.0, "flops_model": flops, "flops_executed": flops}
                run.log("step", stage=stage, step=step, **spent, **counted)
            run.log("stage_end", stage=stage, outputs={})
    return Run.open(run.root)


def test_more_pretraining_gets_the_flops_of_the_training(run):
    recipe = resolve(with_controls(run, resolve(run.recipe), "pretrain", "rl"))
    assert recipe.stage("more-pretraining").steps * 10**12 == 4 * 50 * 10**12
    assert recipe.stage("more-pretraining").shares == recipe.stage("pretrain").shares
    assert recipe.stage("rejection-sft").steps <= 200
    assert recipe.stage("rejection-sft").samples == ["right-answers"]


def test_the_training_itself_is_the_same_and_only_what_is_paid_differs(run):
    recipe = resolve(with_controls(run, resolve(run.recipe), "pretrain", "rl"))
    assert recipe.stage("rl") == resolve(run.recipe).stage("rl")
    for name in ("format-only", "random-reward"):
        other = recipe.stage(name)
        assert other.model_copy(update={"name": "rl", "rewards": recipe.stage("rl").rewards}) == recipe.stage(
            "rl"
        )
        assert other.rewards.accuracy == 0
    assert set(NAMES) < {s.name for s in recipe.stages}
    assert "eval" not in {s.name for s in recipe.stages}


@pytest.mark.parametrize(
    ("before", "after"), [("tokenizer", "rl"), ("pretrain", "pretrain"), ("pretrain", "nothing")]
)
def test_what_is_no_such_training_is_refused(run, before, after):
    with pytest.raises(ConfigError):
        with_controls(run, resolve(run.recipe), before, after)
