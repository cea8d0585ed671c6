"""However many ranks, passes and parts: the same training, and of N parts each rank holds an N-th."""

import pytest
import ranks
import torch
from shapes import shape, varied
from torch.distributed.tensor import DTensor

from nomoat.data.packing import Batch
from nomoat.model.transformer import Transformer
from nomoat.parallel import fsdp
from nomoat.parallel.fsdp import spread
from nomoat.parallel.mesh import ALONE
from nomoat.train.loop import reduce_gradients
from nomoat.train.microbatches import Rows, microbatches
from nomoat.train.objective import ObjectiveConfig, accumulate
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.whole import in_one_piece

T = 24
DENSE = shape(
    vocab_size=50, n_layers=1, d_model=16, n_heads=2, d_nope=4, d_rope=4, d_value=4, d_kv_latent=8, d_ffn=24,
    context=T, tied=True,
)  # fmt: skip
ROUTED = shape(
    vocab_size=50, n_layers=2, d_model=16, n_heads=2, d_nope=4, d_rope=4, d_value=5, d_kv_latent=7,
    d_dense=21, n_dense_layers=1, n_routed=3, n_shared=1, n_active=2, d_expert=6, n_mtp=1, context=T,
)  # fmt: skip
WIDE = shape(
    vocab_size=200, n_layers=2, d_model=64, n_heads=2, d_nope=16, d_rope=8, d_value=16, d_kv_latent=32,
    d_ffn=128, context=T,
)  # fmt: skip
SPECS = {"dense": DENSE, "apart": varied(DENSE, tied=False), "routed": ROUTED, "wide": WIDE}
LOSS, NORM = 2e-5, 2e-3  # relative, over 50 steps, where sums come in another order


class Stream:
    """Rows of tokens, each keyed by its number and with targets of another number."""

    T = T

    def batch(self, first: int, n: int) -> Batch:
        ids, targets = [], []
        for row in range(first, first + n):
            g = torch.Generator().manual_seed(row)
            ids.append((torch.randint(0, 7, (T,), generator=g).cumsum(0) + row) % 50)
            targets.append(ids[-1].roll(-1))
            targets[-1][row % 5 + 12 :] = -100
        doc_BT = (torch.arange(T) >= T // 3).int().expand(n, T)
        return Batch(torch.stack(ids), torch.stack(targets), doc_BT)


def made(name, mesh, at_once=None, dtype=torch.float32):
    """A model whose every weight matters, as its rank has it, and its optimiser."""
    model = Transformer(SPECS[name]).initialise(3)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            g = torch.Generator().manual_seed(number)
            parameter += 0.05 * torch.randn(parameter.shape, generator=g)
    model = spread(model.to(dtype), mesh, summed=at_once is not None)
    return model, Optimizer(model, OptimConfig(muon_lr=0.01), mesh)


def train(mesh, name, n_steps, n_rows, at_once=None, dtype=torch.float32):
    """(loss and gradient norm of each step, whole weights) of a training with passes of `at_once` rows."""
    model, optimizer = made(name, mesh, at_once, dtype)
    curve = []
    for step in range(n_steps):
        batches = microbatches(Rows(Stream(), step * n_rows, n_rows, at_once), mesh)
        found = accumulate(model, batches, ObjectiveConfig(balance_weight=0.01), mesh)
        curve.append((found.loss, reduce_gradients(mesh, optimizer)))
        optimizer.step(1 - step / n_steps, curve[-1][1])
        found.after()
    return curve, {name: optimizer.whole(name) for name in optimizer.master}


def near(one, other):
    losses, norms = ([pair[i] for pair in one[0]] for i in (0, 1))
    assert losses == pytest.approx([loss for loss, _ in other[0]], rel=LOSS)
    assert norms == pytest.approx([norm for _, norm in other[0]], rel=NORM)


def same(one, other):
    assert one[0] == other[0]
    assert all(torch.equal(one[1][name], other[1][name]) for name in one[1])


def test_two_passes_two_copies_and_two_parts_train_alike_to_the_bit():
    """Two numbers have one sum.  A tied embedding; sizes of matrices that any stack multiplies alike."""
    alone = train(ALONE, "dense", 50, 2, 1)
    assert alone[0][-1][0] < 0.95 * alone[0][0][0]
    for axes in ({"replicate": 2}, {"shard": 2}):
        first, second = ranks.run(train, 2, "dense", 50, 2, **axes)
        same(first, alone)
        same(second, alone)


def test_uneven_parts_odd_batches_and_ranks_without_rows_train_alike():
    """Experts, a further depth, widths that two doesn't divide; of three rows in passes of one, one rank has
    one pass of padding."""
    alone = train(ALONE, "routed", 4, 3)
    for at_once in (None, 1):
        near(ranks.run(train, 2, "routed", 4, 3, at_once, shard=2)[1], alone)


@pytest.mark.check
@pytest.mark.parametrize("name", ["dense", "routed"])
def test_eight_rows_train_alike_on_any_mesh(name):
    alone = train(ALONE, name, 50, 8)
    near(train(ALONE, name, 50, 8, 1), alone)
    layouts = [(2, 1, {}), (2, 1, {"shard": 2}), (2, None, {"shard": 2}), (8, 1, {}), (4, 2, {"shard": 4}),
               (4, 1, {"shard": 2, "replicate": 2})]  # fmt: skip
    for world, at_once, axes in layouts:
        near(ranks.run(train, world, name, 50, 8, at_once, seconds=600, **axes)[0], alone)


@pytest.mark.check
def test_in_bfloat16_too_gradients_are_summed_in_float32():
    """But for a tied embedding's own two, which autograd sums in bfloat16 where the weight is gathered."""
    for name, alike in (("apart", same), ("dense", near_in_bfloat16)):
        alone = train(ALONE, name, 50, 2, 1, torch.bfloat16)
        for axes in ({"replicate": 2}, {"shard": 2}):
            alike(ranks.run(train, 2, name, 50, 2, None, torch.bfloat16, seconds=600, **axes)[0], alone)


def near_in_bfloat16(one, other):
    assert [loss for loss, _ in one[0]] == pytest.approx([loss for loss, _ in other[0]], rel=1e-3)


def held(mesh):
    """Bytes of weights, gradients and optimiser on this rank, each storage once; a resumed optimiser and a
    model in one piece have the same numbers."""
    model, optimizer = made("wide", mesh)
    accumulate(model, microbatches(Rows(Stream(), 0, 4, None), mesh), ObjectiveConfig(), mesh)
    reduce_gradients(mesh, optimizer)
    tensors = [*model.parameters(), *(p.grad for p in model.parameters()), *optimizer.first.values()]
    tensors += [*optimizer.second.values(), *optimizer.master.values()]
    storages = [fsdp.local(tensor).untyped_storage() for tensor in tensors]
    n_bytes = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    optimizer.step(1.0, 1.0)

    _, resumed = made("wide", mesh)
    saved = optimizer.tensors()
    assert all(isinstance(t, DTensor) for n, t in saved.items() if n != "steps") or mesh.world == 1
    resumed.load({name: fsdp.whole(tensor) for name, tensor in saved.items()})
    piece = in_one_piece(model, optimizer).get_parameter("blocks.1.ffn.w_down.weight")
    assert torch.equal(piece, resumed.whole("blocks.1.ffn.w_down.weight"))
    assert resumed.steps == 1
    return n_bytes


def test_of_two_parts_each_rank_holds_half():
    alone = held(ALONE)
    for n_bytes in ranks.run(held, 2, shard=2):
        assert n_bytes == pytest.approx(alone / 2, rel=0.1)
