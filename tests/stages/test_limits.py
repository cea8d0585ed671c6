"""What the numbers of a stage mean beside those of others."""

import pytest

from nomoat.config import ConfigError, read_recipe, shipped_recipes
from nomoat.parallel.axes import MeshConfig
from nomoat.stages import limits, pipeline
from nomoat.stages.recipe import resolve

WRONG = {
    "rl.rewards={accuracy=0}": "expected one of accuracy, format, language, random above 0",
    "pretrain.context=100000": "at most the model's context, which is 96",
    "sft.context=129": "at most the model's context, which is 128",
    "distill.context=1000": "at most the model's context, which is 128",
    "rl.minibatches=5": "at most one for each of prompts = 4",
    "rl.max_new_tokens=128": "less than the context of rl, which is 128",
    "eval.max_new_tokens=999": "less than the context of pretrain, which is 96",
    "distill.max_new_tokens=999": "less than the context of distill, which is 128",
    "extend.context=96": "more than the 96 so far",
    "extend.context=64": "more than the 96 so far",
    "pretrain.first_rows=9": "at most the rows = 8",
    "pretrain.shares={}": "some kind of document above 0",
    "sft.shares={prose=0.0}": "some kind of document above 0",
    "sft.text=own.txt sft.shares={tasks=1.0}": "`sft.text` = own.txt: expected a share of the rows",
    "sft.hub=a/b sft.shares={tasks=1.0}": "`sft.hub` = data set `a/b`, split `train`: expected a share",
}
PIPELINES = {
    "mesh={pipeline=4}": "4 stages, found one of 3 blocks; expected a block for each stage: set pipeline = 3",
    "mesh={pipeline=2,schedule='zbv'}": "4 stages, found one of 3 blocks.*set pipeline = 1",
    "mesh={pipeline=2,replicate=4}": "found 1 microbatches in a step; expected one for each stage",
    "models.main.n_layers=4 mesh={pipeline=2,shard=2,schedule='zbv'}": "beside it; set schedule = \"1f1b\"",
    "mesh={pipeline=2,replicate=1} pretrain.micro_rows=3": "every rank, here 4; set pretrain.micro_rows = 2",
    "mesh={schedule='2f2b'}": "1f1b",
}
RIGHT = (
    "rl.rewards={accuracy=0.0,random=1.0}", "rl.minibatches=4", "distill.group=1", "save_seconds=0",
    "seed=-1", "models.main.d_model=34", "rl.max_new_tokens=127", "distill.policy_steps=100",
)  # fmt: skip


@pytest.mark.parametrize("change", WRONG)
def test_what_can_not_do_what_it_says_is_refused_by_the_plan_and_the_run(change):
    recipe = resolve(read_recipe("smoke", change.split()))
    for whole in (True, False):
        with pytest.raises(ConfigError, match=WRONG[change]):
            pipeline.check(recipe, whole=whole)


@pytest.mark.parametrize("change", PIPELINES)
def test_a_pipeline_that_can_not_be_is_refused_before_anything_is_done(change):
    with pytest.raises(ConfigError, match=PIPELINES[change]):
        pipeline.check(resolve(read_recipe("smoke", change.split())), whole=False)


def test_what_samples_has_no_stages_but_as_many_parts():
    recipe = resolve(read_recipe("smoke", ["mesh={pipeline=2,shard=3}"]))
    pipeline.check(resolve(read_recipe("smoke", ["mesh={pipeline=2}"])), whole=False)
    laid = {config.kind: limits.axes_of(recipe.mesh, config) for config in recipe.stages}
    assert {laid[kind] for kind in ("rl", "distill")} == {MeshConfig(shard=6)}
    assert laid["sft"] == recipe.mesh


@pytest.mark.parametrize("change", RIGHT)
def test_what_means_something_is_left(change):
    pipeline.check(resolve(read_recipe("smoke", [change])), whole=False)


@pytest.mark.parametrize("name", shipped_recipes())
def test_recipes_that_ship_mean_what_they_say(name):
    pipeline.check(resolve(read_recipe(name)), whole=False)
