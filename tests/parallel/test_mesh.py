"""Two processes are one trainer: the same means, the same decisions; one process needs nothing."""

import multiprocessing
import re
import signal
from functools import partial

import pytest
import ranks
import torch
import torch.distributed as dist

from nomoat.config import ConfigError, UserError
from nomoat.parallel.axes import AXES, MeshConfig
from nomoat.parallel.mesh import Mesh, start, stop
from nomoat.run.stop import Interrupted


def fail(error):
    raise error


def exchange(mesh):
    """The exchanges of two ranks, whose sums are known."""
    value = float(mesh.rank + 1)
    threes = torch.full((3,), value, dtype=torch.bfloat16)
    across = torch.arange(6.0).reshape(2, 3).t()
    tensors = [torch.full((2, 3), value), torch.arange(4.0) * value, threes, torch.zeros(0), across * value]
    before = [t.data_ptr() for t in tensors]
    mesh.all_reduce_sum(tensors)
    assert [t.data_ptr() for t in tensors] == before
    assert torch.equal(tensors[0], torch.full((2, 3), 3.0))
    assert torch.equal(tensors[1], torch.arange(4.0) * 3)
    assert torch.equal(tensors[2], torch.full((3,), 3.0, dtype=torch.bfloat16))
    assert torch.equal(tensors[4], across * 3)
    fine = [torch.tensor([1e-12 * value], dtype=torch.float64) + 1]
    mesh.all_reduce_sum(fine)
    assert abs(fine[0].item() - 2 - 3e-12) < 1e-15
    assert mesh.most(5 - mesh.rank) == 5
    assert [*mesh.share(5)] == ([0, 1], [2, 3, 4])[mesh.rank]
    assert mesh.broadcast({"from": mesh.rank}) == {"from": 0}
    assert mesh.gather(mesh.rank * 10) == [0, 10]
    assert mesh.lead(lambda: mesh.rank + 7) == 7
    for error in (ConfigError("led"), Interrupted("led")):
        with pytest.raises(type(error), match="led"):
            mesh.lead(partial(fail, error))
    assert mesh.any(mesh.rank == 1)
    assert not mesh.any(False)
    mesh.barrier()
    stop()
    stop()
    return mesh.rank, mesh.world


def test_two_ranks_agree():
    assert ranks.run(exchange, 2) == [(0, 2), (1, 2)]


def test_one_process_needs_no_group():
    mesh = start("cpu")
    assert mesh == Mesh(0, 1, torch.device("cpu"))
    assert not dist.is_initialized()
    tensor = torch.ones(3)
    mesh.all_reduce_sum([tensor])
    mesh.barrier()
    assert torch.equal(tensor, torch.ones(3))
    assert (mesh.broadcast("x"), mesh.gather("x"), mesh.any(True)) == ("x", ["x"], True)
    stop()


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "cpu:0", "cuda:"])
def test_an_unknown_device_is_named(device):
    with pytest.raises(UserError, match="expected"):
        start(device)


def test_cuda_that_is_not_there_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:0"):
        with pytest.raises(UserError, match="no CUDA device"):
            start(device)


def test_too_many_ranks_for_the_cards_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="card 3"):
        start("cuda:3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UserError, match="card 1"):
        start("cuda")


@pytest.mark.parametrize(
    "wrong", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x"}, {"WORLD_SIZE": "2"}, {"WORLD_SIZE": "0"}]
)
def test_half_an_environment_is_a_clear_error(monkeypatch, wrong):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="torchrun"):
        start("cpu")


def places(mesh):
    """What each rank thinks of its place, and whom its groups hold."""
    held = {}
    for axis in AXES:
        ranks = torch.zeros(mesh.world, dtype=torch.int64)
        ranks[mesh.rank] = 1
        if (group := mesh.group(axis)) is not None:
            dist.all_reduce(ranks, group=group)
        held[axis] = mesh.index(axis), ranks.nonzero().flatten().tolist()
    return held, (mesh.data_rank, mesh.data_world), [mesh.dims[axis].get_local_rank() for axis in AXES]


def test_ranks_lie_along_the_axes_and_share_rows_but_for_the_pipeline():
    found = ranks.run(places, 4, pipeline=2, expert=2)
    for rank, (held, data, torchs) in enumerate(found):
        stage, expert = divmod(rank, 2)
        assert held["pipeline"] == (stage, [expert, 2 + expert])
        assert held["expert"] == (expert, [2 * stage, 2 * stage + 1])
        assert held["shard"] == held["replicate"] == (0, [rank])
        assert torchs == [held[axis][0] for axis in AXES]
        assert data == (expert, 2)


def disagree(mesh):
    """Ranks that meet again with another fact, and another mesh."""
    said = []
    stop()
    for fact, axes in (("ab", {}), ("a", {"shard": 2})):
        try:
            mine = {"recipe": fact[mesh.rank * (len(fact) - 1)]}
            start("cpu", MeshConfig(**(axes if mesh.rank else {})), lambda mine=mine: mine)
        except UserError as error:
            said.append(str(error))
    return said


def fall_silent(mesh):
    if mesh.rank:
        raise ZeroDivisionError("here")
    mesh.barrier()
    mesh.barrier()


def hang(mesh):
    while True:
        signal.pause()


def test_ranks_that_disagree_fail_and_none_outlives_its_law():
    first, second = ranks.run(disagree, 2)
    assert first == second
    other_fact, other_mesh = first
    place = r"rank 1 on \S+ found {}; rank 0 on \S+ {}; expected the same .*"
    assert re.fullmatch(place.format("recipe b", "recipe a"), other_fact)
    assert re.fullmatch(place.format(r"\[mesh\] shard = 2", r"\[mesh\] replicate = 2"), other_mesh)
    with pytest.raises(ranks.RankError, match="ZeroDivisionError: here"):
        ranks.run(fall_silent, 2)
    with pytest.raises(ranks.RankError, match="not done in time"):
        ranks.run(hang, 2, seconds=1.0)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("axes", "world", "message"), [
    ({"shard": 3}, 4, "takes 3 ranks or a multiple, found 4; .*start 3 or 6 ranks.*: shard = 4$"),
    ({"shard": 2}, 1, "takes 2 ranks or a multiple, found 1; .*start 2 ranks.*: shard = 1$"),
    ({"shard": 2, "replicate": 2}, 2, "takes 4 ranks, found 2; .*start 4 ranks"),
    ({"shard": 2, "replicate": 1}, 4, "takes 2 ranks, found 4; .*start 2 ranks"),
    ({"pipeline": 3, "expert": 2}, 8, "found 8; .*start 6 or 12 ranks.*: expert = 2, pipeline = 4$"),
])  # fmt: skip
def test_a_mesh_that_does_not_divide_is_told_the_nearest_that_does(axes, world, message):
    with pytest.raises(ConfigError, match=message):
        MeshConfig(**axes).on(world)


def test_absent_axes_make_every_rank_a_replica():
    assert MeshConfig().on(3) == MeshConfig(replicate=3)
    assert MeshConfig(shard=2).on(8) == MeshConfig(shard=2, replicate=4)
    assert MeshConfig(shard=2, replicate=2).on(4).world == 4
