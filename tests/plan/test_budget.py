"""Budgets: read strictly, planned for, counted by the log, and never scaled twice."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from nomoat.config import ConfigError, read_recipe
from nomoat.model import counts
from nomoat.plan import budget
from nomoat.plan.budget import resolve
from nomoat.plan.machine import machine_of
from nomoat.run.directory import Run
from nomoat.run.stop import Interrupted, Stop
from nomoat.stages import s6_distill, s7_eval
from nomoat.stages.pipeline import run_stages
from nomoat.train.session import Session

RECIPES = Path(__file__).parents[2] / "recipes"
SECONDS = 1.0  # that every record of the log costs in the runs of these tests


def table(name: str, **head) -> dict:
    return read_recipe(RECIPES / f"{name}.toml") | head


def short(**head) -> dict:
    """Tokenizer and two trainings of the smoke recipe."""
    found = table("smoke", **head)
    found["stages"] = [s for s in found["stages"] if s["kind"] in ("tokenizer", "pretrain", "sft")]
    return found


def needs(recipe, what: str = "seconds") -> float:
    return sum(getattr(line, what) for line in budget.estimate(recipe))


@pytest.mark.parametrize(
    ("text", "what", "much"),
    [
        ("10 min", "seconds", 600), ("2h", "seconds", 7200), ("1 kWh", "joules", 3.6e6),
        ("300 kJ", "joules", 3e5),
        ("0.01 USD", "money", 0.01), ("5 EUR", "money", 5 * 1.0455), ("6e+05 J", "joules", 6e5),
    ],
)  # fmt: skip
def test_a_budget_is_read(text, what, much):
    assert budget.amount(text) == (what, pytest.approx(much))
    assert budget.amount(budget.worded(2 * much, text)) == (what, pytest.approx(2 * much, rel=1e-3))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("10", "unit"), ("min", "unit"), ("-1 h", "amount"), ("0 h", "amount"), ("1.2.3 h", "amount"),
     (". h", "amount"),
     ("5 GBP", "EUR"), ("10 mins", "min"), ("1 h 30 min", "amount")],
)  # fmt: skip
def test_what_is_no_budget_says_what_one_is(text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        resolve(table("smoke", budget=text))


@pytest.mark.parametrize("text", ["2 min", "15 min", "3 h", "200 kJ", "0.05 EUR"])
def test_the_plan_fits_the_budget_and_uses_most_of_it(text):
    what, limit = budget.amount(text)
    recipe = resolve(table("cpu", budget=text))
    assert 0.85 * limit < needs(recipe, what) <= (1 - budget.KEPT_BACK) * limit
    assert text in recipe.fitted
    assert recipe.limit == text
    assert ("costs nothing but its electricity" in recipe.fitted) == (what == "money")


def test_a_resolved_recipe_is_not_cut_again():
    recipe = resolve(table("cpu", budget="3 h"))
    again = resolve(recipe.table)
    assert again == recipe
    assert again.table == recipe.table
    assert {"budget", "fitted"}.isdisjoint(resolve(table("cpu")).table)


def test_parameters_grow_as_the_root_of_the_budget():
    plain = resolve(table("cpu"))
    for times in (16, 100, 1000):
        recipe = resolve(table("cpu", budget=f"{times * needs(plain) / (1 - budget.KEPT_BACK):.0f} s"))
        active = {name: counts.params_active(spec) for name, spec in recipe.models.items()}
        before = {name: counts.params_active(spec) for name, spec in plain.models.items()}
        assert math.sqrt(times) / 1.6 < active["main"] / before["main"] < math.sqrt(times) * 1.6
        assert active["student"] / before["student"] > 1.5
        main, student = recipe.models["main"], recipe.models["student"]
        assert (main.attention, main.d_model) == (student.attention, student.d_model)  # which it can inherit
        assert recipe.stage("pretrain").steps > plain.stage("pretrain").steps


def test_the_smallest_budget_that_is_named_is_enough():
    with pytest.raises(ConfigError, match="at least") as caught:
        resolve(table("cpu", budget="1 s"))
    smallest = str(caught.value).split("at least ")[1].split(",")[0]
    recipe = resolve(table("cpu", budget=smallest))
    assert recipe.stage("pretrain").steps >= 20
    assert recipe.stage("eval").problems >= 20


def test_scaling_keeps_what_a_stage_is():
    policy = s6_distill.Config(kind="distill", steps=100, policy_steps=100)
    for factor in (0.0, 0.37, 3.0):
        found = budget.scaled(policy, factor)
        assert found.policy_steps == found.steps
    few = s6_distill.Config(kind="distill", steps=8, policy_steps=4, task_documents=100, talk_documents=50)
    assert budget.scaled(few, 0.1) == few
    measured = s7_eval.Config(kind="eval", tasks={"lamp": [4]}, problems=60)
    assert [budget.scaled(measured, x).problems for x in (0.1, 0.5, 9.0)] == [20, 30, 60]


@pytest.mark.parametrize("width", [0.25, 0.5, 1.5, 3.0])
def test_a_sized_model_is_one(width):
    for name in ("cpu", "smoke", "teacup"):
        for spec in resolve(table(name)).models.values():
            sized = budget.sized(spec, width)
            kept = [
                (s.attention.d_rope, s.attention.d_value, getattr(s.ffn, "n_routed", 0))
                for s in (sized, spec)
            ]
            assert kept[0] == kept[1]
            assert sized.d_model % 8 == 0
            more_heads = sized.attention.n_heads - spec.attention.n_heads
            assert (counts.params_active(sized) - counts.params_active(spec)) * more_heads >= 0


def test_a_run_goes_on_with_more_as_it_was_cut():
    begun = resolve(table("cpu", budget="5 min")).table
    more = resolve(table("cpu", budget="8 min"), begun)
    assert (more.table, more.limit) == (begun, "8 min")
    assert resolve(begun | {"budget": "8 min"}, begun) == more
    assert (
        resolve(table("cpu", budget="8 min", seed=1), begun).table["seed"] == 1
    )  # another recipe is not hidden
    assert resolve(table("cpu"), begun).limit is None


def test_what_is_measured_cuts_a_new_run_and_no_run_that_goes_on():
    def twice_as_fast(recipe):
        machine = machine_of(recipe)
        faster = {"train_flops": 2 * machine.train_flops, "sample_flops": 2 * machine.sample_flops}
        return replace(machine, **faster)

    slow = resolve(table("cpu", budget="5 min"))
    fast = resolve(table("cpu", budget="5 min"), here=twice_as_fast)
    assert fast.stage("pretrain").steps > slow.stage("pretrain").steps
    for now in (machine_of, twice_as_fast):  # however fast it is by now
        assert resolve(table("cpu", budget="5 min"), fast.table, now) == fast
        assert resolve(fast.table, fast.table, now) == fast
    other = resolve(table("cpu", budget="5 min", seed=1), fast.table).table
    assert {key for key in other if other[key] != fast.table[key]} == {"seed"}


@pytest.fixture
def clock(monkeypatch):
    """Every record costs SECONDS, as the plan expects of the whole run on average."""
    spent = {"seconds": SECONDS, "joules": 10.0, "joules_source": "estimated"}
    monkeypatch.setattr(Session, "spent", lambda self, seconds: dict(spent))


def ran(root: Path, recipe) -> Run:
    run = Run.create(root, recipe.table)
    with Stop() as stop, run.locked():
        run_stages(run, recipe, stop, metered=partial(budget.Meter, recipe))
    return run


def test_a_run_stops_when_its_budget_is_spent_and_goes_on_with_more(tmp_path, clock):
    recipe = resolve(short(budget="5 s", fitted="by hand"))
    heard = []
    run = Run.create(tmp_path / "a", recipe.table)
    run.observers.append(heard.append)
    words = "pretrain at step 2 of 30; 5 s spent of a budget of 5 s: raise it, such as --set budget='10 s'"
    with Stop() as stop, run.locked(), pytest.raises(Interrupted, match=words):
        run_stages(run, recipe, stop, metered=partial(budget.Meter, recipe))
    assert sum(e["seconds"] for e in run.events() if e["kind"] in ("step", "work")) == 5
    assert heard[-1]["kind"] == "step"  # whoever watched goes on watching
    with pytest.raises(Interrupted, match="budget of 5 s"):
        ran(tmp_path / "a", recipe)
    assert len(run.events("step")) == len(Run.open(tmp_path / "a").events("step"))
    more = resolve(short(budget="1000 s", fitted="by hand"), recipe.table)
    done = ran(tmp_path / "a", more)
    assert all(done.finished(s.name) for s in recipe.stages)
    assert done.curve("pretrain")[-1]["step"] == done.curve("pretrain")[-1]["n_steps"]


def test_a_stage_that_begins_late_gets_fewer_steps_and_keeps_them(tmp_path, clock):
    recipe = resolve(short(budget="45 s", fitted="by hand"))  # the plan says about one second, the clock 60
    with pytest.raises(Interrupted):
        ran(tmp_path / "b", recipe)
    run = Run.open(tmp_path / "b")
    assert run.finished("pretrain")
    assert run.events("stage_start", "sft")[0]["config"]["steps"] == 20  # no fewer make sense
    plan = {line.stage: line.seconds for line in budget.estimate(recipe)}
    meter = budget.Meter(recipe, run, Stop(), "cpu", 1)
    assert meter.spent == 45
    assert meter.stop.requested
    assert meter.cut(recipe.stage("sft")).steps == 20
    assert plan["sft"] > 0


def test_a_late_stage_is_cut_by_what_is_left(tmp_path):
    recipe = resolve(table("cpu", budget="10 min"))
    run = Run.create(tmp_path / "c", recipe.table)
    plan = {line.stage: line.seconds for line in budget.estimate(recipe)}
    whole = recipe.stage("pretrain")

    def cut():
        return budget.Meter(recipe, run, Stop(), "cpu", 2).cut(whole).steps / whole.steps

    assert cut() == 1
    run.log("work", stage="tokenizer", what="x", seconds=plan["tokenizer"], tokens=0)
    run.log("stage_end", stage="tokenizer", outputs={})
    assert cut() == 1
    run.log("work", stage="tokenizer", what="x", seconds=300.0, tokens=0)
    left, pace = 300 - plan["tokenizer"], (plan["tokenizer"] + 360) / (plan["tokenizer"] + 60)
    assert cut() == pytest.approx(left / pace / (sum(plan.values()) - plan["tokenizer"]), abs=0.01)


def test_a_last_stage_without_steps_is_left_as_it_is(tmp_path):
    recipe = resolve(table("cpu", budget="10 min"))
    run = Run.create(tmp_path / "d", recipe.table)
    for config in recipe.stages[:-1]:
        run.log("stage_end", stage=config.name, outputs={})
    last = recipe.stages[-1]
    assert last.kind == "export"
    assert budget.Meter(recipe, run, Stop(), "cpu", 2).cut(last) == last
