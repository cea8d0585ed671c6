"""A matrix that lies in parts is worked on once, whole, by one rank."""

import ranks
import torch
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from nomoat.parallel import fsdp, owners

SHAPES = [(5, 3)] * 4 + [(2, 5, 3)]  # a stack of two is two matrices


def matrices():
    g = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=g) for shape in SHAPES]


def cube(stack):
    return stack @ stack.mT @ stack


def cubes(mesh, split):
    """The worst error of a cube, and how many matrices this rank has worked on."""
    seen = []

    def work(stack):
        seen.append(len(stack))
        return cube(stack)

    params = matrices()
    if split:
        placements = [Replicate(), Shard(0)][-mesh.dense.ndim :]
        params = [distribute_tensor(matrix, mesh.dense, placements) for matrix in params]
    done = owners.once(params, [fsdp.local(param) for param in params], work, mesh, 1)
    back = [fsdp.whole(fsdp.like(part, param)) for part, param in zip(done, params)]
    apart = [float((part - cube(matrix)).abs().max()) for part, matrix in zip(back, matrices())]
    return max(apart), sum(seen)


def test_copies_share_the_work_and_parts_have_their_owners():
    for axes, world in (({"replicate": 2}, 2), ({"shard": 2}, 2), ({"shard": 2, "replicate": 2}, 4)):
        found = ranks.run(cubes, world, "shard" in axes, **axes)
        assert max(apart for apart, _ in found) < 1e-5
        assert sum(n for _, n in found) == 6
        assert max(n for _, n in found) <= 4
