"""Faults: the formula is what drawing gives, worse luck never helps, and no faults cost nothing."""

import dataclasses
import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from nomoat.config import read_recipe
from nomoat.plan.cost import plan_published, table_rows
from nomoat.plan.faults import (
    DAY,
    Hazard,
    best_spares,
    daly,
    effective,
    hazard_of,
    productive,
    read_rates,
    waiting,
    young,
)
from nomoat.plan.forecast import forecast
from nomoat.plan.machine import machine_of
from nomoat.plan.published import find_published
from nomoat.plan.replay import N_REPLAYS, endured, replay
from nomoat.stages.recipe import resolve

HOUR = 3600.0
ROUGH = Hazard(3 * HOUR, 60.0, 120.0, 900.0, 40 * HOUR, 0.78)  # ten machines away on average
CALM = replace(ROUGH, mtbf_seconds=1e15)


@pytest.mark.parametrize(("hours", "minutes"), [(24, 117), (6, 57), (0.25, 9.1)])
def test_the_best_interval_is_the_published_one(hours, minutes):
    """The three examples of the paper's figures 3 to 5: a save takes five minutes."""
    found = daly(300, hours * HOUR) / 60
    assert float(f"{found:.{3 if minutes > 100 else 2}g}") == minutes
    assert young(300, hours * HOUR) == math.sqrt(600 * hours * HOUR)


def test_no_other_interval_is_much_better():
    for mtbf in (0.25 * HOUR, 3 * HOUR, 100 * HOUR):
        hazard = replace(ROUGH, mtbf_seconds=mtbf, write_seconds=0.0)
        best = max(productive(hazard, hazard.interval * 1.05**i) for i in range(-60, 61))
        assert productive(hazard, hazard.interval) > 0.9999 * best
        assert productive(hazard, young(hazard.save_seconds, mtbf)) <= best


def test_where_a_save_takes_longer_than_two_faults_are_apart_there_is_one_a_fault():
    assert daly(100.0, 40.0) == 40.0
    assert daly(80.0, 40.000001) == pytest.approx(40.0, rel=0.25)


@pytest.mark.parametrize("spares", [5, 12, 30])
@pytest.mark.parametrize("interval", [300.0, 1150.0, 4000.0])
def test_the_formula_is_the_mean_of_replays(spares, interval):
    """Within four standard errors, and the replays' own are below half a per cent."""
    work = 120 * DAY
    clocks = [replay(ROUGH, interval, spares, work, f"law/{i}").seconds for i in range(25)]
    shares = [work / clock for clock in clocks]
    error = statistics.stdev(shares) / len(shares) ** 0.5
    assert error < 0.005
    assert abs(statistics.fmean(shares) - effective(ROUGH, interval, spares)) < 4 * error + 0.001


def test_a_replay_is_that_of_its_key_and_adds_up():
    one = replay(ROUGH, 1150.0, 5, 30 * DAY, "a")
    assert one == replay(ROUGH, 1150.0, 5, 30 * DAY, "a")
    assert one.seconds != replay(ROUGH, 1150.0, 5, 30 * DAY, "b").seconds
    assert one.restarting <= one.n_faults * ROUGH.restart_seconds
    assert one.seconds > 30 * DAY + one.restarting + one.waiting
    assert one.waiting > 0


def test_no_fault_costs_nothing():
    saves = math.ceil(DAY / 1000) - 1
    calm = replay(CALM, 1000.0, 0, DAY, "calm")
    assert calm.seconds == DAY + saves * CALM.save_seconds
    assert calm.n_faults == calm.restarting == calm.waiting == 0
    free = replace(CALM, save_seconds=0.0)
    assert replay(free, 1000.0, 0, DAY, "calm").seconds == DAY
    assert effective(free, 1000.0, 0) == pytest.approx(1)
    assert best_spares(CALM, 256) == 0


@pytest.mark.parametrize(
    ("field", "worse"),
    [
        ("mtbf_seconds", 0.8),
        ("save_seconds", 1.5),
        ("write_seconds", 1.5),
        ("restart_seconds", 1.5),
        ("repair_seconds", 1.5),
        ("hardware", 1.2),
    ],
)
def test_worse_luck_never_helps(field, worse):
    unlucky = replace(ROUGH, **{field: worse * getattr(ROUGH, field)})
    assert effective(unlucky, ROUGH.interval, 12) < effective(ROUGH, ROUGH.interval, 12)
    assert best_spares(unlucky, 256) >= best_spares(ROUGH, 256)


def test_each_spare_helps_less_than_the_one_before():
    shares = [waiting(ROUGH, spares) for spares in range(40)]
    gains = [one - other for one, other in zip(shares, shares[1:])]
    assert all(gain > 0 for gain in gains)
    assert gains == sorted(gains, reverse=True)
    assert waiting(ROUGH, 0) == pytest.approx(ROUGH.in_repair / (1 + ROUGH.in_repair))
    few, many = best_spares(ROUGH, 8), best_spares(ROUGH, 10_000)
    assert few < many  # a spare is dearer to few machines


def test_saves_wait_for_the_one_before():
    slow = replace(ROUGH, save_seconds=0.1, write_seconds=7200.0)
    assert daly(0.1, slow.mtbf_seconds) < slow.interval == 7200.0 - 0.1


def test_with_llamas_faults_a_run_of_llamas_size_is_as_effective_as_it_said():
    """Over 90 % on 16,384 devices; a run of 2,048 loses an eighth as often."""
    past = read_rates().interruptions
    for planned, n in ((False, 419), (True, 466)):
        hazard = hazard_of(405e9, past.devices, planned=planned)
        assert hazard.mtbf_seconds * n == pytest.approx(54 * DAY)
        assert 0.90 < effective(hazard, hazard.interval, best_spares(hazard, 2048)) < 0.95
    small = hazard_of(405e9, 2048)
    assert small.mtbf_seconds == pytest.approx(8 * hazard_of(405e9, 16384).mtbf_seconds)


def test_a_plan_of_many_machines_says_what_faults_add():
    run = find_published("deepseek-v3")
    plan = plan_published(run)
    rows = {what: estimate for what, estimate, _, _ in table_rows(plan, run)}
    assert {"a fault every", "save every", "spare machines", "effective time"} <= set(rows)
    faults = plan.faults
    assert faults.effective == pytest.approx(faults.in_the_long_run, abs=0.01)
    assert faults.replayed.low < faults.replayed.mean < faults.replayed.high
    assert faults.replayed.mean * faults.effective == pytest.approx(plan.days * DAY)
    assert faults.machine_share > 1 / faults.effective
    assert dataclasses.asdict(plan)["faults"]["spares"] == faults.spares
    alone = plan_published(run, gpus=8)
    assert alone.faults is None
    assert "save every" not in {row[0] for row in table_rows(alone, run)}


def test_a_recipe_on_many_machines_says_so_too():
    recipe = resolve(read_recipe(Path("smoke")))
    many = forecast(recipe, machine=machine_of(recipe, "h100", 64))
    assert many.faults.n_machines == 8
    assert "keep" in many.table().note
    one = forecast(recipe, machine=machine_of(recipe, "h100", 8))
    assert one.faults is None
    assert "fault" not in one.table().note


def test_a_run_too_short_for_a_fault_loses_nothing_to_them():
    short = endured(1e9, 64, 30.0)
    assert short.effective > 0.999
    assert short.interval_seconds <= 30.0
    assert N_REPLAYS >= 100
