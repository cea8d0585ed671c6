"""The probe: it tells of every kind of work, draws from nobody's stream, and forecasts a run."""

import random

import pytest
import torch

from nomoat.config import read_recipe
from nomoat.engine.native import build
from nomoat.model.spec import PRESETS
from nomoat.plan import probe
from nomoat.plan.budget import estimate, resolve
from nomoat.plan.machine import UNMEASURED, machine_of, machine_of_run, with_rates
from nomoat.plan.rates import measured
from nomoat.run.directory import Run
from tests.plan.test_budget import RECIPES


def recipe(name: str):
    return resolve(read_recipe(RECIPES / f"{name}.toml"))


def test_every_kind_of_work_of_every_stage_is_told_of():
    for name in ("cpu", "smoke", "r1"):
        resolved = recipe(name)
        told = [tell for timing in probe.timings_of(resolved) for tell in (*timing.own, *timing.others)]
        assert len(told) == len(set(told))
        for config in resolved.stages:
            kinds = {kind for stage, kind in told if stage == config.name} | {"host"}
            planned = {part.kind for part in estimate(resolved, [config.name])[0].parts if part.seconds}
            assert planned <= kinds, config.name
    few = probe.timings_of(recipe("cpu"))
    assert len(few) < 8  # of 16 kinds of work in its stages


def test_answers_in_another_precision_are_timed_apart_where_that_is_other_work(monkeypatch):
    r1 = recipe("r1")
    rl = next(config for config in r1.stages if config.kind == "rl")
    both = [rl.model_copy(update={"precision": precision}) for precision in ("fp32", "bf16")]
    for has_tiles, n_works in ((True, 2), (False, 1)):
        monkeypatch.setattr(build, "tiles", lambda has_tiles=has_tiles: has_tiles)
        keys = {key for config in both for kind, key, _ in probe.works_of(r1, config) if kind == "sampled"}
        assert len(keys) == n_works


def test_what_is_too_large_to_be_tried_is_left_to_the_data_sheet():
    resolved = recipe("smoke")
    models = dict.fromkeys(resolved.models, PRESETS["deepseek-v3"])
    large = resolved.model_copy(update={"models": models})
    assert [timing.own for timing in probe.timings_of(large, ["pretrain"])] == [[("host", "host")]]


def test_a_probe_leaves_randomness_and_threads_alone_and_sees_memory():
    resolved = recipe("smoke").model_copy(update={"threads": 1})
    before = torch.get_rng_state(), random.getstate(), torch.get_num_threads()
    rates = probe.probe(resolved, ["sft", "rl"], seconds=0.0)
    after = torch.get_rng_state(), random.getstate(), torch.get_num_threads()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert set(rates.stages) == {"sft", "rl", "host"}
    assert rates.base_bytes > 5e7
    lines = estimate(resolved, ["sft", "rl"], with_rates(machine_of(resolved), rates))
    assert all(line.memory_bytes > rates.base_bytes for line in lines)
    assert all(part.error < UNMEASURED + 1 and part.seconds > 0 for line in lines for part in line.parts)


def test_a_run_logs_what_it_was_planned_with(smoke):
    run = Run.open(smoke.root)
    assert len(run.events("rates")) == 1
    assert measured(run.events()).threads == 1
    lines = estimate(resolve(run.recipe), machine=machine_of_run(resolve(run.recipe), run))
    peaks = {event["stage"]: event["peak_bytes"] for event in run.events("stage_end")}
    for line in lines:
        assert peaks[line.stage] == pytest.approx(line.memory_bytes, rel=0.3)


@pytest.mark.check
def test_a_run_takes_the_time_that_was_planned(forge, tmp_path):
    """In processor time, which a busy neighbour changes less than the clock."""
    done = forge("run", RECIPES / "smoke.toml", "--out", tmp_path / "run", "--set", "pretrain.steps=150")
    assert done.code == 0, done.err
    run = Run.open(tmp_path / "run")
    (rates,) = run.events("rates")
    lines = estimate(resolve(run.recipe), machine=machine_of_run(resolve(run.recipe), run))
    planned = sum(line.seconds for line in lines) * rates["busy"]
    took = run.events("stage_end")[-1]["cpu_seconds"] - rates["cpu_seconds"]
    assert took == pytest.approx(planned, rel=0.5)
