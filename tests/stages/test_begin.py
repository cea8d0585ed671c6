"""A rank makes what it holds, and no more: the same numbers as one rank, and an N-th of the memory."""

import pytest
import ranks
import torch
from shapes import shape, varied

from nomoat.model.lora import Lora
from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer
from nomoat.parallel.mesh import ALONE
from nomoat.parallel.process import release_memory
from nomoat.run import memory
from nomoat.run.directory import Run
from nomoat.stages.begin import Learns, build, new
from nomoat.stages.s6_distill import inherit
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.session import Session
from nomoat.train.whole import Blockwise, Whole, in_one_piece
from nomoat.weights import directory

SPEC = shape(
    vocab_size=50, n_layers=3, d_model=16, n_heads=2, d_nope=4, d_rope=4, d_value=5, d_kv_latent=7,
    d_dense=21, n_dense_layers=1, n_routed=4, n_shared=1, n_active=2, d_expert=6, n_mtp=1, context=16,
)  # fmt: skip
STUDENT = varied(SPEC, n_layers=2, n_routed=0, n_mtp=0, d_ffn=12, tied=True)
LARGE = shape(
    vocab_size=4096, n_layers=16, d_model=512, n_heads=8, d_nope=32, d_rope=16, d_value=32, d_kv_latent=128,
    d_ffn=1536, context=16, tied=True,
)  # fmt: skip


def session_of(mesh, root):
    run = Run.create(root, {}) if mesh.rank == 0 else None
    mesh.barrier()
    return Session(run or Run.open(root), "made", mesh, stop=None, energy=None)


def started(what, root):
    """What a model may begin with, and what it learns."""
    noise = new(SPEC, Kernels(), 7)
    if what == "noise":
        return noise, None
    teacher = directory.Stored(root)
    if what == "inherited":
        return inherit(new(STUDENT, Kernels(), 7), teacher), None
    return teacher, Lora(rank=2) if what == "adapted" else None


def made(mesh, what, precision, root):
    """All weights of a model that this rank has made its part of."""
    session = session_of(mesh, root / f"{mesh.axes.says()} {what} {precision}")
    start, lora = started(what, root / "model")
    model, pipeline = build(session, start, precision, Learns(lora, 5, attended=8))
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    optimizer = Optimizer(model, OptimConfig(), mesh, pipeline)
    plain = in_one_piece(model, optimizer)
    if lora is None:
        saved = written(session, Whole(model, optimizer))
        assert all(torch.equal(saved.state_dict()[name], t) for name, t in plain.state_dict().items())
    return {name: tensor.detach() for name, tensor in (*plain.named_parameters(), *plain.named_buffers())}


def written(session, whole):
    """What the ranks write together, read again."""
    out, plain, value = session.run.root / "written", whole.plain(), Blockwise(whole)
    if session.leads:
        directory.save(plain, out, value=value)
    else:
        assert [value(name).shape for name in directory.asked(plain)]
    session.mesh.barrier()
    return directory.load(out)


@pytest.fixture
def root(tmp_path):
    model = Transformer(SPEC).initialise(3)
    with torch.no_grad():
        for number, tensor in enumerate((*model.parameters(), *model.buffers())):
            tensor.normal_(generator=torch.Generator().manual_seed(number))
    directory.save(model, tmp_path / "model")
    return tmp_path


AXES = {"shard": {"shard": 2}, "expert": {"expert": 2}, "stages": {"pipeline": 2}}


@pytest.mark.parametrize(
    ("what", "precision", "axes"),
    [
        ("noise", "fp32", "expert"),
        ("noise", "fp32", "stages"),
        ("stored", "bf16", "shard"),
        ("inherited", "fp32", "shard"),
        ("adapted", "fp32", "stages"),
    ],
)
def test_ranks_begin_with_the_numbers_of_one(root, what, precision, axes):
    alone = made(ALONE, what, precision, root)
    if what == "noise":
        plain = Transformer(SPEC).initialise(7)
        assert all(torch.equal(alone[name], tensor) for name, tensor in plain.named_parameters())
    for found in ranks.run(made, 2, what, precision, root, **AXES[axes]):
        assert found.keys() == alone.keys()
        assert [name for name, tensor in found.items() if not torch.equal(tensor, alone[name])] == []


def grown(mesh, what, root):
    """Bytes that this process has grown by: at most while it makes a model and its optimiser, and with them
    and their gradients at rest."""
    session = session_of(mesh, root / f"{mesh.axes.says()} {what}")
    start = new(LARGE, Kernels(), 7) if what == "noise" else directory.Stored(root / "large")
    before = memory.resident_bytes()
    memory.mark_peak()
    model, _ = build(session, start, "fp32", Learns())
    optimizer = Optimizer(model, OptimConfig(), mesh)
    assert optimizer.first
    begun = memory.peak_bytes() - before
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) + 1
    release_memory()
    return begun, memory.resident_bytes() - before


@pytest.mark.check
@pytest.mark.parametrize("what", ["noise", "stored"])
def test_of_n_parts_a_rank_never_holds_more_than_an_nth(tmp_path, what):
    """Weights, gradients and optimiser, as the system counts them; while they are made too."""
    if what == "stored":
        directory.save(Transformer(LARGE).initialise(3), tmp_path / "large")
    [(begun_alone, alone)] = ranks.run(grown, 1, what, tmp_path)
    for n in (2, 4):
        for begun, held in ranks.run(grown, n, what, tmp_path, shard=n):
            assert held == pytest.approx(alone / n, rel=0.1)
            assert begun < 1.15 * begun_alone / n  # a block in one piece is a fiftieth of it
