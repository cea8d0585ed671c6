"""The plan of `nomoat teach`: what it promises is what the clock of the run allows."""

from dataclasses import replace

from nomoat.config import read_recipe
from nomoat.lab import teach
from nomoat.lab.look import Look, Seen

LOOK = Look(
    levels=(Seen(level=1, n=40, right=0.0, said=0.0, cut=0.1, mixed=0.0, shown=0.0),),
    parameters=10**8, context=2048, prompt=40.0, answer=5.0, longest=9, example=60, drawn_a_second=900.0,
    learnt_a_second=300.0, seconds=30.0,
)  # fmt: skip


def test_reinforcement_is_planned_as_long_as_the_time_that_the_run_will_have_for_it(monkeypatch):
    monkeypatch.setattr(teach, "first_table", lambda table, model, task: table)
    table = teach.named(read_recipe("teach"))
    table["stages"] = [stage for stage in table["stages"] if stage["name"] != "own"]
    for minutes in (8, 12):
        planned, reason = teach.plan(table, "a", "addition", LOOK, minutes)
        steps = tuple(teach.steps_of(planned, LOOK))
        times = teach.Plan(planned, steps, reason, minutes, teach.step_seconds(planned, LOOK)).times
        left = times["train_seconds"] - times["kept_seconds"]
        left -= sum(step.seconds for step in steps if step.stage in ("main", "replay"))
        rl = next(stage for stage in planned["stages"] if stage["name"] == "rl")
        assert 20 < rl["steps"] < teach.MOST_STEPS
        assert abs(rl["steps"] - left / times["step_seconds"]) <= 1


def test_a_model_that_needs_no_cold_start_is_still_held_to_its_replies(monkeypatch):
    monkeypatch.setattr(teach, "first_table", lambda table, model, task: table)
    table = teach.named(read_recipe("teach"))
    table["stages"] = [stage for stage in table["stages"] if stage["name"] != "own"]
    mixed = replace(LOOK, levels=(replace(LOOK.levels[0], mixed=0.5, cut=0.0),))
    stages = {stage["name"]: stage for stage in teach.plan(table, "a", "addition", mixed, 12)[0]["stages"]}
    assert list(stages) == ["replay", "rl", "eval"]
    assert stages["rl"]["replay"] == ["replay"]


def test_whatever_draws_does_so_in_the_precision_that_the_look_was_timed_in():
    stages = read_recipe("teach")["stages"]
    precisions = {stage["precision"] for stage in stages if "max_new_tokens" in stage}
    assert len(precisions) == 1
