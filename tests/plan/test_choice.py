"""The mesh of a run that names none: it divides, it fits, nothing that would fit is faster, and it runs."""

import dataclasses
import math
from pathlib import Path

import pytest
from shapes import dense_twin

from nomoat.cli.work import laid_out
from nomoat.config import ConfigError, read_recipe
from nomoat.model import counts
from nomoat.model.spec import PRESETS
from nomoat.parallel.axes import MeshConfig
from nomoat.plan.choice import EQUAL, choose, chosen, divisors, lay, meshes
from nomoat.plan.cost import plan_published
from nomoat.plan.forecast import forecast
from nomoat.plan.hardware import read_hardware
from nomoat.plan.layout import BYTES_PER_PARAM, RESERVED, Workload
from nomoat.plan.machine import machine_of
from nomoat.plan.parts import parts
from nomoat.plan.published import find_published
from nomoat.stages.recipe import resolve

LITE = PRESETS["deepseek-v2-lite"]
H100 = read_hardware().device("h100")


def work(memory_bytes=80e9, rows=2304, spec=LITE):
    device = H100.model_copy(update={"memory_bytes": memory_bytes})
    return Workload(parts(spec, 4096), device, 0.4, rows, 4096)


@pytest.fixture(scope="module")
def smoke():
    return resolve(read_recipe(Path("smoke")))


@pytest.mark.parametrize("world", [2, 6, 8, 48, 64])
@pytest.mark.parametrize("gigabytes", [40, 80, 150, 1000])
def test_it_divides_and_fits_and_nothing_that_fits_is_faster(world, gigabytes):
    here = work(gigabytes * 1e9)
    best = chosen(here, world, [LITE], LITE.n_layers)
    assert math.prod(best.mesh.shape) == world
    assert LITE.ffn.n_routed % best.mesh.expert == 0
    laid = [lay(mesh, here) for mesh in meshes(here, world, [LITE.ffn.n_routed], LITE.n_layers)]
    fitting = [each for each in laid if each.fits]
    assert best.fits == bool(fitting)
    if best.mesh.replicate == world:
        assert lay(best.mesh, here).fits
    elif fitting:
        assert best.seconds <= EQUAL * min(each.seconds for each in fitting)
        assert best.held_bytes <= (1 - RESERVED) * gigabytes * 1e9
    else:
        assert best.held_bytes == min(each.held_bytes for each in laid)
        assert "does not fit" in best.says()


def test_a_model_that_fits_is_copied():
    assert chosen(work(1000e9), 8, [LITE], LITE.n_layers).mesh == MeshConfig(replicate=8)
    assert chosen(work(), 8, [LITE], LITE.n_layers).mesh.replicate < 8


def test_every_mesh_of_so_many_ranks_is_tried_once():
    tried = list(meshes(work(), 12, [LITE.ffn.n_routed], LITE.n_layers))
    assert len(tried) == len({mesh.shape for mesh in tried})
    assert all(mesh.world == 12 for mesh in tried)
    assert {mesh.expert for mesh in tried} == {1, 2, 4}  # of 12, what divides 64
    assert {mesh.shard for mesh in tried} == set(divisors(12))
    assert not list(meshes(work(rows=11), 12, [64], 27))  # a row for each rank, and for each stage
    assert {mesh.expert for mesh in meshes(work(), 12, [], 27)} == {1}
    assert {mesh.pipeline for mesh in meshes(work(), 12, [64], 3)} == {1, 2, 3}


@pytest.mark.parametrize("axes", [{"shard": 8}, {"expert": 8}, {"shard": 2, "expert": 4}])
def test_parts_hold_their_share(axes):
    """Of weights, gradients and optimiser; two layers are gathered at a time beside the rows' activations."""
    whole = lay(MeshConfig(replicate=1), work())
    part = lay(MeshConfig(replicate=1, **axes), work())
    activations = whole.held_bytes - counts.params_total(LITE) * sum(BYTES_PER_PARAM.values())
    gathered = 2 * BYTES_PER_PARAM["weights"] * counts.params_total(LITE) / LITE.n_layers
    assert whole.held_bytes - activations == pytest.approx(8 * (part.held_bytes - activations), rel=0.3)
    eighth = (whole.held_bytes - activations) / 8
    assert eighth < part.held_bytes - activations <= eighth + gathered


def test_parts_move_what_the_paper_says():
    """Weights in bf16 twice and gradients in float32 for each row; of copies the gradients once a step."""
    slow = H100.model_copy(update={"nvlink_bytes_per_second": 1e3})
    here = dataclasses.replace(work(), device=slow, model=parts(dense_twin(LITE), 4096))
    n_params, n_tokens = counts.params_total(dense_twin(LITE)), 2304 * 4096
    for axes, moved in (({"shard": 8}, (2 + 2 + 4) * 2304 / 8), ({"replicate": 8}, 2 * 4)):
        seconds = lay(MeshConfig(**{"replicate": 1, **axes}), here).seconds
        assert seconds == pytest.approx(moved * n_params / 1e3 * 8 / n_tokens)


def test_computing_the_forward_pass_again_holds_less_and_takes_longer():
    mesh = MeshConfig(replicate=1, shard=8)
    here = dataclasses.replace(work(), share=0.01)  # nothing binds but arithmetic
    one, other = lay(mesh, here), lay(mesh, here, recompute=True)
    assert other.held_bytes < one.held_bytes
    assert other.seconds > one.seconds


def test_a_recipe_that_names_a_mesh_has_it(smoke):
    named = smoke.model_copy(update={"mesh": MeshConfig(expert=2)})
    assert choose(named, 8, "h100").mesh == MeshConfig(expert=2, replicate=4)
    with pytest.raises(ConfigError, match="nearest"):
        choose(named, 3, "h100")


def test_stages_that_sample_from_what_they_train_keep_their_models_whole(smoke):
    """Of a dense model on slow links, which a pipeline suits best."""
    shape = find_published("llama-2-13b").shape
    pretrain = smoke.stage("pretrain").model_copy(update={"rows": 64, "context": 1024})
    alone = smoke.model_copy(update={"models": {"main": shape}, "stages": (pretrain,)})
    sampled = alone.model_copy(update={"stages": (pretrain, smoke.stage("rl"))})
    assert choose(alone, 16, "rtx-4090").mesh.pipeline > 1
    assert choose(sampled, 16, "rtx-4090").mesh.pipeline == 1


def test_a_whole_policy_counts_where_what_learns_lies_in_parts(smoke):
    n_bytes = 4 * max(counts.params_total(smoke.shape(smoke.stage(name))) for name in ("rl", "distill"))
    trained = smoke.model_copy(update={"stages": smoke.stages[:4]})
    for axes, whole in (({}, 0), ({"shard": 2}, n_bytes), ({"pipeline": 2}, n_bytes)):
        update = {"update": {"mesh": MeshConfig(**axes)}}
        both = [choose(recipe.model_copy(**update), 4, "h100") for recipe in (smoke, trained)]
        assert both[0].held_bytes - both[1].held_bytes == pytest.approx(whole)
        assert ("to sample from whole models in rl and distill" in both[0].says()) == bool(whole)
        assert ("and distill, shard = 2)" in both[0].says()) == ("pipeline" in axes)
        assert "sample" not in both[1].says()


def test_what_a_server_samples_is_said(smoke):
    sampler = {"url": "http://here:8000/v1", "model": "m", "directory": "/w"}
    table = read_recipe(Path("smoke"))
    next(stage for stage in table["stages"] if stage["kind"] == "rl")["sampler"] = sampler
    assert "What a server samples for rl is planned as if" in forecast(resolve(table)).note()
    assert "server" not in forecast(smoke).note()


@pytest.mark.parametrize(("device", "gpu"), [("cpu", None), ("cuda", "h100")])
def test_the_mesh_that_is_printed_is_the_one_that_runs(smoke, device, gpu):
    recipe = smoke.model_copy(update={"device": device})
    runs = laid_out(recipe, 4).mesh
    assert runs == choose(recipe, 4, gpu or "cpu").mesh == MeshConfig(replicate=4)
    assert laid_out(recipe, 1) is recipe
    assert recipe.mesh is None  # what a run keeps: it may go on with other ranks
    if gpu:
        printed = forecast(recipe, machine=machine_of(recipe, gpu, 4))
        assert printed.mesh.mesh == runs
        assert "[mesh] replicate = 4" in printed.table().note


def test_a_published_run_is_laid_out_for_what_is_run_here():
    plan = plan_published(replace_gpus(find_published("deepseek-v2-lite"), 8))
    assert math.prod(plan.mesh.mesh.shape) == 8
    assert plan.mesh.seconds >= 0.99 * plan.layouts[0].seconds


def replace_gpus(run, gpus):
    return run.model_copy(update={"gpus": gpus, "gpu": "h100"})
