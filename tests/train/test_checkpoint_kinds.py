"""Checkpoints of every kind of tensor, by one rank or several; nothing of them is pickled."""

import inspect
import os
import socket
import subprocess
import sys

import torch

from nomoat.train import checkpoint
from nomoat.train.checkpoint import load, newest, save


def test_kinds_views_ties_and_empty_things_come_back_equal(tmp_path):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    group = {
        "tied": base, "again": base, "transposed": base.t(), "rows": base[1:3], "strided": base[:, ::2],
        "scalar": torch.tensor(3), "int": torch.arange(3), "bool": torch.tensor([True, False]),
        "bf16": torch.tensor([1.5, -0.0, float("inf")]).bfloat16(), "empty": torch.zeros(0, 4),
        "nan": torch.tensor([float("nan")]), "parameter": torch.nn.Parameter(torch.ones(2)),
    }  # fmt: skip
    groups, state = load(
        save(tmp_path, 1, {"a": group, "none": {}}, {"n": 2**70, "text": "ü", "x": [1, None]})
    )
    assert state == {"n": 2**70, "text": "ü", "x": [1, None]}
    assert set(groups) == {"a"}  # a group of no tensors leaves nothing
    for name, tensor in group.items():
        back = groups["a"][name]
        assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
        left, right = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (back, tensor))
        assert torch.equal(left, right)
        back += 1 if back.dtype != torch.bool else True  # writable
    assert base[0, 0] == 0


def test_nothing_is_pickled():
    source = inspect.getsource(checkpoint)
    assert "pickle" not in source.split('"""')[2]
    assert "torch.load" not in source
    assert "torch.save" not in source


RANK = """
import sys, torch
from nomoat.parallel.mesh import start, stop
from nomoat.train import checkpoint

mesh = start("cpu")
tensors = {"a": {f"w{i}": torch.full((i + 1, 3), float(i)) for i in range(7)}, "b": {"n": torch.tensor(5)}}
path = checkpoint.save(sys.argv[1], 3, tensors, {"seed": 7}, mesh=mesh)
class Full(checkpoint.FS):
    def write(self, fd, data):
        raise OSError(28, "No space left on device")
try:  # one rank's disk is full: no rank believes in the checkpoint
    checkpoint.save(sys.argv[1], 4, tensors, {}, mesh=mesh, fs=Full() if mesh.rank == 1 else checkpoint.DISK)
except OSError as error:
    print(error.errno)
stop()
"""


def test_every_rank_writes_its_share_and_any_number_of_ranks_reads_it(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = os.environ | {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", RANK, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [rank.communicate(timeout=60)[0] for rank in ranks] == ["28\n", "28\n"]
    path = newest(tmp_path, print)
    assert path.name == "step_000003"
    sizes = [(path / f"rank_000{rank}.safetensors").stat().st_size for rank in range(2)]
    assert max(sizes) < 1.5 * min(sizes)
    groups, state = load(path)
    assert state == {"seed": 7}
    assert {name: float(tensor.sum()) for name, tensor in groups["a"].items()} == {
        f"w{i}": 3.0 * i * (i + 1) for i in range(7)
    }
    assert groups["b"]["n"] == 5
    assert [p.name for p in tmp_path.iterdir()] == ["step_000003"]
