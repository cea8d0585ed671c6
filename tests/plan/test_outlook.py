"""What is left of a run: the forecast before, the pace of the work that was done after."""

import pytest

from nomoat.config import read_recipe
from nomoat.plan.budget import estimate, resolve
from nomoat.plan.outlook import TRUST, Outlook, share_of, split
from nomoat.plan.outlook import planned as planned_of
from nomoat.run.directory import Run
from tests.plan.test_budget import RECIPES


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", resolve(read_recipe(RECIPES / "cpu.toml")).table)


def outlook_of(run: Run) -> Outlook:
    return Outlook(resolve(run.recipe), run)


def planned(run: Run) -> dict[str, dict[str, float]]:
    return {line.stage: {p.kind: p.seconds for p in line.parts} for line in estimate(resolve(run.recipe))}


def steps(run: Run, stage: str, n: int, n_steps: int, seconds: float, **fields) -> None:
    """So many steps of a stage at this pace."""
    for step in range(1, n + 1):
        run.log("step", stage=stage, step=step, n_steps=n_steps, seconds=seconds, **fields)


def test_before_it_begins_the_whole_forecast_is_left(run):
    left = outlook_of(run).left()
    assert left.value == pytest.approx(sum(sum(kinds.values()) for kinds in planned(run).values()))
    assert left.low < left.value < left.high


def test_a_stage_goes_on_at_its_own_pace_and_others_of_its_kind_with_it(run):
    plan = planned(run)
    trained = {stage: kinds["trained"] for stage, kinds in plan.items() if "trained" in kinds}
    steps(run, "pretrain", 1100, 2200, 3 * trained["pretrain"] / 2200)
    outlook = outlook_of(run)
    pace = outlook.pace("trained")
    half, every = trained["pretrain"] / 2, sum(trained.values())
    assert pace == pytest.approx((TRUST * every + 3 * half) / (TRUST * every + half))
    assert 2 < pace < 3
    (own,) = [outlook.stages["pretrain"]["trained"].left(pace)[1]]
    assert 2.9 * half < own < 3 * half
    others = outlook.stages["sft"]["trained"].left(pace)[1]
    assert others == pytest.approx(pace * trained["sft"])
    assert outlook.pace("sampled") == 1


def test_what_was_seen_makes_the_interval_narrower(run):
    before = outlook_of(run).left()
    plan = planned(run)["pretrain"]["trained"]
    steps(run, "pretrain", 2000, 2200, plan / 2200)
    after = outlook_of(run).left()
    assert after.value < before.value
    assert after.high / after.value < before.high / before.value


def test_stages_that_are_over_are_not_left_and_the_last_leaves_nothing(run):
    recipe, outlook = resolve(run.recipe), outlook_of(run)
    run.observers.append(outlook.hear)
    left = [outlook.left().value]
    for config in recipe.stages:
        run.log("stage_start", stage=config.name)
        run.log("stage_end", stage=config.name, outputs={})
        left.append(outlook.left().value)
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert outlook.left() == outlook_of(run).left()  # of a run that is opened again


def test_what_was_done_twice_counts_once(run):
    plan = planned(run)["pretrain"]["trained"]
    steps(run, "pretrain", 1100, 2200, plan / 2200)
    left = outlook_of(run).left().value
    run.log("resume", stage="pretrain", step=1000)
    for step in range(1001, 1101):
        run.log("step", stage="pretrain", step=step, n_steps=2200, seconds=plan / 2200)
    assert outlook_of(run).left().value == pytest.approx(left)


def test_records_are_parted_by_kind(run):
    distill = resolve(run.recipe).stage("distill")
    n, n_policy = distill.steps, distill.policy_steps
    assert share_of(n // 2, n, "trained", distill) == pytest.approx(n // 2 / (n - n_policy))
    assert share_of(n - n_policy, n, "sampled", distill) == 0
    assert share_of(n, n, "sampled", distill) == share_of(n, n, "trained", distill) == 1
    step = {"kind": "step", "seconds": 5.0, "sample_seconds": 2.0}
    assert split(step) == [("sampled", 2.0), ("learned", 3.0)]
    known = {"encode prose": "host", "bits per byte of rl": "scored", "problems for rl": "sampled"}
    for what, kind in known.items():
        assert split({"kind": "work", "what": what, "seconds": 1.0}) == [(kind, 1.0)]


def test_an_evaluation_is_as_far_as_the_models_that_it_measured(run):
    run.log("work", stage="eval", what="problems for pretrain", seconds=9.0)
    outlook = outlook_of(run)
    n = sum(config.leaves_weights for config in resolve(run.recipe).stages)
    assert outlook.stages["eval"]["sampled"].share == 1 / n
    assert "left of all (" in outlook.says()


def test_no_more_is_left_than_the_time_of_a_run_that_has_a_limit(run):
    seconds = {"pretrain": 50.0, "eval": 10.0}
    run.log("look", stage=None, train_seconds=50.0, measure_seconds=10.0, planned_seconds=seconds)
    told = {line["stage"]: line["seconds"] for line in planned_of(resolve(run.recipe), run)}
    assert told["pretrain"] == 50 != told["sft"]
    steps(run, "pretrain", 3, 2200, 7.0)
    left = outlook_of(run).left()
    assert (left.low, left.value, left.high) == (39.0, 39.0, 39.0)
    assert (outlook_of(run).seconds(), outlook_of(run).says()) == (39.0, "39.0 s left of all")
    steps(run, "pretrain", 1, 2200, 60.0)
    assert outlook_of(run).left().high == 0
