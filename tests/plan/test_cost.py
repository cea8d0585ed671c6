"""The estimate before a run: exact in FLOPs, near the published runs in time, and honest about its assumptions."""

import dataclasses
import json
import math

import pytest

from nomoat.config import ConfigError
from nomoat.ledger import read_prices
from nomoat.model.spec import PRESETS
from nomoat.plan.cost import parse_quantity, plan_pretraining, read_hardware, read_published

V3, LITE = PRESETS["deepseek-v3"], PRESETS["deepseek-v2-lite"]


@pytest.fixture(scope="module")
def v3():
    return plan_pretraining(V3, 14.8e12, "h800", 2048, 4096)


def test_v3_comes_out_as_published(v3):
    assert v3.params_total == 671_026_419_200
    assert v3.params_active == pytest.approx(37.55e9, rel=1e-3)
    assert v3.flops_per_token == pytest.approx(260.6e9, rel=0.01)
    assert v3.flops_total == v3.flops_per_token * 14.8e12
    assert v3.gpu_hours == pytest.approx(2.664e6, rel=0.10)
    assert v3.usd == pytest.approx(5.328e6, rel=0.10)
    assert v3.days == pytest.approx(54.2, rel=0.10)
    assert v3.tokens_per_second / 2048 == pytest.approx(1543, rel=0.10)


def test_v3s_share_of_the_peak_is_not_fitted_on_v3(v3):
    own = next(run for run in read_published() if run.name == "DeepSeek 67B")
    assert "67B" in v3.mfu_source
    assert v3.mfu_source.startswith("estimated")
    assert v3.mfu == pytest.approx(implied(own), rel=0.01)


def test_the_plan_is_consistent_and_serialisable(v3):
    table = json.loads(json.dumps(v3.to_json()))
    assert {"params_total", "params_active", "flops_total", "gpu_hours", "usd"} <= set(table)
    assert v3.gpu_hours == pytest.approx(v3.flops_total / (989.4e12 * v3.mfu) / 3600)
    assert v3.joules == v3.kwh * 3.6e6 == pytest.approx(v3.gpu_hours * 3600 * read_prices().device("h800").watts)
    assert sum(v3.memory_bytes.values()) == pytest.approx(18 * (v3.params_total + v3.params_mtp) / 2048)
    assert v3.fits
    assert v3.energy_source.startswith("estimated")
    with pytest.raises(dataclasses.FrozenInstanceError):
        v3.usd = 0


def test_cost_is_linear_in_tokens_and_indifferent_to_the_number_of_devices():
    one = plan_pretraining(LITE, 1e12, "h100", 64, 4096)
    two = plan_pretraining(LITE, 2e12, "h100", 128, 4096)
    assert two.gpu_hours == pytest.approx(2 * one.gpu_hours)
    assert two.days == pytest.approx(one.days)
    longer = plan_pretraining(LITE, 1e12, "h100", 64, 32768)
    assert longer.flops_total > one.flops_total


def implied(run) -> float:
    return run.flops_per_token * run.tokens / (run.gpu_hours * 3600 * read_hardware().devices[run.gpu].flops_bf16)


@pytest.mark.parametrize("run", read_published(), ids=lambda run: run.name)
def test_published_runs_lie_near_their_class(run):
    """Within a tenth, but for two held-out runs that reached less of the peak: there the hours come out a sixth low."""
    if run.gpu_hours is None:
        assert run.flops_per_token * run.tokens == pytest.approx(3.14e23, rel=0.01)
        return
    error = 0.17 if run.name in ("Llama 2 34B", "Llama 3.1 405B") else 0.10
    assert read_hardware().mfu[run.mfu_class].value == pytest.approx(implied(run), rel=error)
    assert 5.5 * run.params_active < run.flops_per_token < 8 * run.params_active


def test_the_class_follows_from_model_and_device():
    plan = lambda spec, gpu, n, **more: plan_pretraining(spec, 1e9, gpu, n, 1024, **more)
    assert "class moe-tuned" in plan(LITE, "h100", 64).mfu_source
    assert "class moe-plain" in plan(LITE, "h100", 1).mfu_source
    assert "class dense" in plan(LITE.dense_twin(), "a100", 8).mfu_source
    assert "class cpu" in plan(LITE, "cpu", 2).mfu_source
    assert "class dense" in plan(LITE, "h100", 1, mfu="dense").mfu_source
    assert plan(LITE, "h100", 1, mfu=0.5).mfu_source == "given"
    assert not plan(LITE, "cpu", 2).fits


def test_every_device_has_a_price():
    prices = read_prices()
    assert all(math.isfinite(prices.device(name).per_hour) for name in read_hardware().devices)


@pytest.mark.parametrize(
    ("text", "value"),
    [("14.8T", 14.8e12), ("300M", 3e8), ("2.5e9", 2.5e9), ("4_096", 4096), ("7b", 7e9), (" 1 K ", 1e3), ("0.5G", 5e8)],
)
def test_quantities_are_read(text, value):
    assert parse_quantity(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("text", ["", "T", "-3M", "0", "1.2.3", "1e999", "ten", "5X", "1,000", "nan", "inf", "３M"])
def test_what_is_no_quantity_is_named(text):
    with pytest.raises(ConfigError, match="expected a positive number"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gpu": "h10"}, "did you mean `h100`"),
        ({"n_gpus": 0}, "expected one or more"),
        ({"tokens": 0.0}, "expected one or more"),
        ({"tokens": math.nan}, "expected one or more"),
        ({"mfu": 1.5}, "share of the peak"),
        ({"mfu": "moe"}, "did you mean `moe-"),
    ],
)
def test_an_impossible_plan_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        plan_pretraining(**{"spec": LITE, "tokens": 1e9, "gpu": "h100", "n_gpus": 1, "context": 1024, **change})
