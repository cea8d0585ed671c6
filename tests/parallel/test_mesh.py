"""Two processes are one trainer: the same means, the same decisions; one process needs nothing."""

import os
import socket
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from nomoat.config import UserError
from nomoat.parallel.mesh import Mesh, start, stop

RANK = """
import torch
from nomoat.parallel.mesh import start, stop

mesh = start("cpu")
value = float(mesh.rank + 1)
tensors = [torch.full((2, 3), value), torch.arange(4.0) * value, torch.full((3,), value,
dtype=torch.bfloat16),
           torch.zeros(0), torch.arange(6.0).reshape(2, 3).t() * value]
before = [t.data_ptr() for t in tensors]
mesh.all_reduce_mean(tensors)
assert [t.data_ptr() for t in tensors] == before
assert torch.equal(tensors[0], torch.full((2, 3), 1.5))
assert torch.equal(tensors[1], torch.arange(4.0) * 1.5)
assert torch.equal(tensors[2], torch.full((3,), 1.5, dtype=torch.bfloat16))
assert torch.equal(tensors[4], torch.arange(6.0).reshape(2, 3).t() * 1.5)
fine = [torch.tensor([1e-12 * value], dtype=torch.float64) + 1]
mesh.all_reduce_mean(fine)
assert abs(fine[0].item() - 1 - 1.5e-12) < 1e-15
assert mesh.broadcast({"from": mesh.rank}) == {"from": 0}
assert mesh.gather(mesh.rank * 10) == [0, 10]
assert mesh.any(mesh.rank == 1) and not mesh.any(False)
mesh.barrier()
stop()
stop()
print(mesh.rank, mesh.world)
"""


def test_two_ranks_agree():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", RANK],
            env=os.environ | {"RANK": str(r), "WORLD_SIZE": "2", "LOCAL_RANK": str(r), "OMP_NUM_THREADS": "1",
                              "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for r in range(2)
    ]  # fmt: skip
    said = [rank.communicate(timeout=60) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert [out for out, _ in said] == ["0 2\n", "1 2\n"]


def test_one_process_needs_no_group():
    mesh = start("cpu")
    assert mesh == Mesh(0, 1, torch.device("cpu"))
    assert not dist.is_initialized()
    tensor = torch.ones(3)
    mesh.all_reduce_mean([tensor])
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
