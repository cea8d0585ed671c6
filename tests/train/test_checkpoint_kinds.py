"""Checkpoints of every kind of tensor, by one rank or several; nothing of them is pickled."""

import errno
import inspect
import os

import ranks
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


class Full(checkpoint.FS):
    def write(self, fd, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def saved_twice(mesh, root: str) -> int:
    tensors = {
        "a": {f"w{i}": torch.full((i + 1, 3), float(i)) for i in range(7)},
        "b": {"n": torch.tensor(5)},
    }
    checkpoint.save(root, 3, tensors, {"seed": 7}, mesh=mesh)
    try:  # one rank's disk is full: no rank believes in the checkpoint
        checkpoint.save(root, 4, tensors, {}, mesh=mesh, fs=Full() if mesh.rank == 1 else checkpoint.DISK)
    except OSError as error:
        return error.errno


def test_every_rank_writes_its_share_and_any_number_of_ranks_reads_it(tmp_path):
    assert ranks.run(saved_twice, 2, str(tmp_path)) == [errno.ENOSPC] * 2
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
