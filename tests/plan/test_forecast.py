"""The plan beside the receipt: what is arithmetic agrees exactly, what is estimated says so."""

import pytest

from nomoat.model.spec import PRESETS
from nomoat.plan.budget import resolve
from nomoat.plan.forecast import against_plan, forecast
from nomoat.plan.hardware import read_hardware
from nomoat.plan.machine import machine_of
from nomoat.report.receipt import receipt_of
from nomoat.run.directory import Run


@pytest.fixture
def run(smoke):
    return Run.open(smoke.root)


def test_tokens_and_flops_of_trainings_come_out_as_planned(run):
    plan = {line.stage: line for line in forecast(resolve(run.recipe)).lines}
    rows = {row.stage: row for row in receipt_of(run).rows}
    for stage in ("pretrain", "extend", "sft"):
        assert rows[stage].tokens == plan[stage].tokens
        assert rows[stage].flops_model == pytest.approx(plan[stage].flops, rel=1e-6)
    for stage in ("rl", "distill", "eval"):  # how long answers become nobody knows before
        assert rows[stage].flops_model == pytest.approx(plan[stage].flops, rel=1.0)


def test_the_table_has_every_stage_and_its_ratio(run):
    found = against_plan(run)
    assert [row[0] for row in found.rows] == [*(s["name"] for s in run.recipe["stages"]), "total"]
    row = dict(zip(("stage", "tokens", "of tokens"), found.rows[1]))
    assert (row["stage"], row["of tokens"]) == ("pretrain", "1.00")


def test_a_recipe_is_planned_for_the_cards_that_are_named(run):
    recipe = resolve(run.recipe)
    here = forecast(recipe)
    cards = forecast(recipe, machine=machine_of(recipe, gpu="rtx-4090", gpus=2, mfu=0.5))
    peak = 2 * read_hardware().devices["rtx-4090"].flops_bf16 * 0.5
    (line,) = [line for line in cards.lines if line.stage == "extend"]
    trained = recipe.plan(recipe.stage("extend"))
    assert line.seconds == pytest.approx(trained["trained"] / peak + trained["host"])
    assert line.joules == pytest.approx(2 * 450 * line.seconds)
    assert cards.table().title == "Plan for 2 x rtx-4090, estimated"
    assert [line.tokens for line in cards.lines] == [line.tokens for line in here.lines]


def test_what_does_not_fit_is_said(run):
    recipe = resolve(run.recipe)
    assert "fit" not in forecast(recipe).source
    large = recipe.model_copy(update={"models": {name: PRESETS["deepseek-v3"] for name in recipe.models}})
    assert "It doesn't fit: " in forecast(large, ["pretrain"]).source


def test_time_energy_and_money_of_a_forecast_add_up(run):
    found = forecast(resolve(run.recipe))
    for what in ("seconds", "joules", "money"):
        assert getattr(found.total(), what) == pytest.approx(sum(getattr(line, what) for line in found.lines))
    assert "measured" in found.source
