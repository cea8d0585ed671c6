"""However many ranks, passes and parts: the same training."""

import math

import pytest
import ranks
import torch
from shapes import shape

from nomoat.data.packing import NOWHERE, Batch
from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer
from nomoat.parallel import fsdp
from nomoat.parallel.mesh import ALONE
from nomoat.stages.models import spread
from nomoat.train.loop import reduce_gradients
from nomoat.train.objective import ObjectiveConfig, accumulate
from nomoat.train.optim import OptimConfig, Optimizer

ROUTED = shape(
    vocab_size=50, n_layers=2, d_model=16, n_heads=2, d_nope=4, d_rope=4, d_value=4, d_kv_latent=8, d_dense=24,
    n_dense_layers=1, n_routed=4, n_shared=1, n_active=2, d_expert=8, n_mtp=1, context=24,
)  # fmt: skip
DENSE = shape(
    vocab_size=50, n_layers=2, d_model=16, n_heads=2, d_nope=4, d_rope=4, d_value=4, d_kv_latent=8, d_ffn=24,
    context=24, tied=True,
)  # fmt: skip
SPECS = {"routed": ROUTED, "tied": DENSE}
T = 24


def rows(step: int, first: int, n: int) -> Batch:
    """Rows of a stream that is keyed by the step and the row; each has targets of its own number."""
    ids, targets, docs = [], [], []
    for row in range(first, first + n):
        g = torch.Generator().manual_seed(1000 * step + row)
        line = (torch.randint(0, 7, (T,), generator=g).cumsum(0) + row) % 50
        target = line.roll(-1)
        target[row % 5 + 12 :] = -100
        ids.append(line)
        targets.append(target)
        docs.append((torch.arange(T) >= T // 3).int())
    return Batch(torch.stack(ids), torch.stack(targets), torch.stack(docs))


def train(mesh, name, n_steps, passes, optim=None, dtype=torch.float32, n_rows=8):
    """(losses, gradient norms, whole masters) of a training in so many passes of this rank."""
    model = Transformer(SPECS[name], Kernels()).initialise(3).to(dtype)
    with torch.no_grad():  # output projections begin at zero, and nothing would reach what is before them
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter += 0.05 * torch.randn(
                    parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())
                )
    model = spread(model, mesh, summed=passes > 1)
    optimizer = Optimizer(model, optim or OptimConfig(muon_lr=0.01), mesh)
    share = mesh.share(n_rows)
    each = len(share) // passes
    losses, norms = [], []
    for step in range(n_steps):
        batches = [rows(step, start, each) for start in range(share.start, share.stop, each)]
        found = accumulate(model, batches, ObjectiveConfig(balance_weight=0.01), mesh)
        norms.append(reduce_gradients(mesh, optimizer))
        losses.append(found.loss)
        optimizer.step(1 - step / n_steps, norms[-1])
        found.after()
    return losses, norms, {name: optimizer.whole(name) for name in optimizer.master}


@pytest.mark.parametrize("name", ["routed", "tied"])
def test_x(name):
    import time

    for dtype in (torch.float32, torch.bfloat16):
        t = time.time()
        alone = train(ALONE, name, 50, 2, None, dtype)
        print(time.time() - t)
        for world, axes in ((2, {"shard": 2}), (2, {"replicate": 2}), (4, {"shard": 2}), (4, {"shard": 4})):
            t = time.time()
            passes = 1
            found = ranks.run(train, world, name, 50, passes, None, dtype, **axes)
            same = (
                found[0][0] == alone[0],
                found[0][1] == alone[1],
                all(torch.equal(a, b) for a, b in zip(alone[2].values(), found[0][2].values())),
                found[0][:2] == found[1][:2],
            )
            print(
                dtype,
                axes,
                world,
                same,
                time.time() - t,
                max(abs(a - b) for a, b in zip(alone[0], found[0][0])),
                max(abs(a - b) / b for a, b in zip(alone[1], found[0][1])),
            )
