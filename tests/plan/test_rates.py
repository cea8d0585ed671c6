"""What a probe measured: added up with its errors, written and read again."""

import json
import math

import pytest

from nomoat.config import read_recipe
from nomoat.plan.budget import estimate, resolve
from nomoat.plan.machine import UNMEASURED, machine_of, with_rates
from nomoat.plan.rates import Rate, Rates, error, measured, read, total
from tests.plan.test_budget import RECIPES

RATES = Rates(
    threads=1, device="cpu", base_bytes=3e8, took=1.5, busy=0.9,
    stages={"pretrain": {"trained": Rate(2e-11, 1e-11, 4e-11)}, "host": {"host": Rate(2.0, 2.0, 2.0)}},
    bytes={"pretrain": 1e8},
)  # fmt: skip


def test_parts_of_a_kind_err_together_and_kinds_apart():
    alike = total([("trained", 10.0, 0.1), ("trained", 30.0, 0.1)])
    apart = total([("trained", 10.0, 0.1), ("sampled", 30.0, 0.1)])
    assert alike.value == apart.value == 40.0
    assert alike.low < apart.low < 40.0 < apart.high < alike.high
    assert alike.high / 40 == pytest.approx(40 / alike.low) == pytest.approx(1 + 1.645 * 0.1)
    assert total([]) == (0.0, 0.0, 0.0)


def test_the_spread_of_a_probe_is_a_part_of_the_error():
    rate = Rate.of([1.0, 2.0, 9.0], 4.0)
    assert (rate.seconds, rate.low, rate.high) == (0.5, 0.25, 2.25)
    assert rate.spread == 2.0
    assert error("trained", 2.0) == pytest.approx(math.hypot(error("trained"), 2.0))
    assert error("trained", 0.0, 0.6) > error("trained", 0.0, 0.2) > error("trained")
    assert RATES.taken == pytest.approx(0.1)


def test_rates_are_read_as_they_were_logged():
    event = {"kind": "rates", "t": 1.0, **json.loads(json.dumps(RATES.event()))}
    assert read(event) == RATES
    assert measured([{"kind": "note"}, event]) == RATES
    assert measured([{"kind": "note"}]) is None


def test_a_plan_takes_the_measured_rates_and_says_what_was_not_measured():
    recipe = resolve(read_recipe(RECIPES / "smoke.toml"))
    lines = {line.stage: line for line in estimate(recipe, machine=with_rates(machine_of(recipe), RATES))}
    plan = recipe.plan(recipe.stage("pretrain"))
    pretrain = lines["pretrain"]
    assert pretrain.seconds == pytest.approx(2e-11 * plan["trained"] + 2 * plan["host"])
    assert pretrain.low_seconds < pretrain.seconds < pretrain.high_seconds
    assert pretrain.memory_bytes == 3e8 + max(1e8, plan["host_bytes"])
    sft, rl = lines["sft"], lines["rl"]
    assert sft.parts[0].seconds == pytest.approx(2e-11 * recipe.plan(recipe.stage("sft"))["trained"])
    assert {part.kind: part.error for part in rl.parts}["sampled"] == UNMEASURED
