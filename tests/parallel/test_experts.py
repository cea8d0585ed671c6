"""Experts on several ranks give what one rank gives that holds them all: outputs, gradients, a training."""

import itertools
import math
from dataclasses import replace
from unittest.mock import patch

import pytest
import ranks
import torch
import torch.distributed as dist
from shapes import shape, varied

from nomoat.config import ConfigError
from nomoat.data.packing import Batch
from nomoat.model.moe import Experts
from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer
from nomoat.parallel import fsdp
from nomoat.parallel.axes import divided
from nomoat.parallel.experts import Splitter, most_reached, reached
from nomoat.parallel.fsdp import spread
from nomoat.parallel.mesh import ALONE, Mesh
from nomoat.train.loop import reduce_gradients
from nomoat.train.objective import ObjectiveConfig, accumulate
from nomoat.train.optim import OptimConfig, Optimizer

SPEC = shape(
    vocab_size=61, n_layers=3, d_model=20, n_heads=2, d_nope=6, d_rope=4, d_value=6, d_kv_latent=8, d_ffn=24,
    n_dense_layers=1, n_routed=8, n_shared=1, n_active=3, d_expert=12, n_groups=4, n_active_groups=2, n_mtp=1,
)  # fmt: skip
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 2**-7}  # of the largest number: the parts of a sum, rounded


def layer(dtype: torch.dtype, how: str, crowded: bool) -> Experts:
    """One with random weights; `crowded`: nearly all tokens want experts 0, 1 and 2."""
    experts = Experts(SPEC, Kernels(experts=how))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in experts.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) / 3)
        if crowded:
            experts.bias_E.copy_(torch.tensor([9.0, 9, 9, 0, 0, 0, 0, 0]))
    experts.to(dtype).bias_E.data = experts.bias_E.float()
    return experts


def tokens(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, SPEC.d_model, generator=torch.Generator().manual_seed(seed))


def gap(got: torch.Tensor, want: torch.Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    if not want.numel():
        return 0.0
    got, want = got.detach().float(), want.detach().float()
    return float((got - want).abs().max() / want.abs().max().clamp(min=1e-9))


def on_nodes(mesh: Mesh, n_nodes: int) -> Mesh:
    return replace(mesh, per_node=mesh.world // n_nodes)


def one_layer(mesh, n_nodes: int) -> dict[tuple[str, torch.dtype], float]:
    """The largest gaps between a whole layer that reads all ranks' tokens and the ranks' layers."""
    gaps: dict[tuple[str, torch.dtype], float] = {}
    loads = [5] * mesh.world, [40] + [0] * (mesh.world - 1), list(range(0, 30 * mesh.world, 30))
    cases = itertools.product(ROUNDING, ("sorted", "wide"), loads, (False, True))
    for dtype, how, n_tokens, crowded in cases:
        first = sum(n_tokens[: mesh.rank])
        mine = slice(first, first + n_tokens[mesh.rank])
        h_MD, pull_MD = (tokens(sum(n_tokens), seed).to(dtype) for seed in (1, 2))
        whole, part = (layer(dtype, how, crowded) for _ in range(2))
        Splitter(on_nodes(mesh, n_nodes))(part)
        found = []
        for experts, rows in ((part, mine), (whole, slice(None))):
            leaf = h_MD[rows].clone().requires_grad_()
            out, routing = experts(leaf)
            (out * pull_MD[rows]).sum().backward()
            found.append((out[mine] if experts is whole else out, leaf.grad, routing))
        (out, grad, routing), (out_whole, grad_whole, _) = found
        pairs = {"output": (out, out_whole), "tokens": (grad, grad_whole[mine])}
        n_held = SPEC.ffn.n_routed // mesh.world
        for name in ("w_gate_up", "w_down"):
            held = getattr(whole, name).weight.grad[mesh.rank * n_held :][:n_held]
            pairs[name] = getattr(part, name).weight.grad.to_local(), held
        router = part.w_router.weight.grad.float()
        dist.all_reduce(router)
        pairs["router"] = router, whole.w_router.weight.grad
        for name, pair in pairs.items():
            gaps[name, dtype] = max(gaps.get((name, dtype), 0.0), gap(*pair))
        assert reached([routing], mesh.world)[most_reached(SPEC.ffn, mesh.world) + 1 :].sum() == 0
    return gaps


def test_a_layer_on_two_ranks_equals_the_whole_one_whatever_the_loads():
    for gaps in ranks.run(one_layer, 2, 1, expert=2):
        assert {pair: value for pair, value in gaps.items() if value > ROUNDING[pair[1]]} == {}


@pytest.mark.check
@pytest.mark.parametrize("n_nodes", [1, 2, 4])
def test_and_on_four_ranks_of_one_two_or_four_nodes(n_nodes):
    for gaps in ranks.run(one_layer, 4, n_nodes, expert=4):
        assert {pair: value for pair, value in gaps.items() if value > ROUNDING[pair[1]]} == {}


def passing_nodes(mesh) -> tuple[list[int], list[int]]:
    """Rows that each rank of four on two nodes sent from node to node and within one; how many it had to."""
    part = layer(torch.float32, "sorted", crowded=False)
    Splitter(on_nodes(mesh, 2))(part)
    rows: list[int] = []

    def counted(product):
        return lambda h, *rest: rows.append(len(h)) or product(h, *rest)

    outer = part.product
    inner = outer.product
    part.product = replace(outer, product=counted(replace(inner, product=counted(inner.product))))
    h_MD = tokens(50, mesh.rank)
    _, routing = part(h_MD)
    counts = [reached([routing], n) for n in (2, 4)]
    return rows, [int(count_N @ torch.arange(float(len(count_N)))) for count_N in counts]


@pytest.mark.check
def test_a_token_goes_once_to_a_node_and_once_to_a_rank():
    received, sent = zip(*ranks.run(passing_nodes, 4, expert=4))
    assert [sum(column) for column in zip(*received)] == [sum(column) for column in zip(*sent)]
    by_copy = 4 * 50 * SPEC.ffn.n_active
    assert sum(n for n, _ in sent) < sum(n for _, n in sent) < by_copy


@pytest.mark.parametrize(("n_groups", "n_active_groups", "n_parts", "most"), [
    (4, 2, 4, 2), (4, 2, 2, 2), (4, 1, 2, 1), (4, 1, 8, 2), (4, 2, 8, 3), (2, 1, 4, 2), (1, 1, 4, 3),
    (4, 3, 1, 1),
])  # fmt: skip
def test_a_token_reaches_no_more_ranks_than_its_groups_lie_on(n_groups, n_active_groups, n_parts, most):
    n_active = min(3, n_active_groups * 8 // n_groups)
    spec = varied(SPEC, n_groups=n_groups, n_active_groups=n_active_groups, n_active=n_active)
    experts = Experts(spec, Kernels())
    experts.w_router.weight.data.copy_(tokens(spec.ffn.n_routed, 3))
    counts = reached([experts.route(tokens(400, 4))] * 2, n_parts)
    assert counts.sum() == 2 * 400
    assert counts.nonzero().max() == most_reached(spec.ffn, n_parts) == most


@pytest.mark.parametrize(
    ("n_routed", "n_ranks", "nearest"), [(8, 16, 8), (8, 3, 2), (256, 60, 64), (6, 5, 6), (1, 2, 1)]
)
def test_ranks_that_do_not_divide_the_experts_are_told_the_nearest_number(n_routed, n_ranks, nearest):
    with pytest.raises(ConfigError, match=f"expert = {n_ranks}.* {n_routed} experts.*expert = {nearest}$"):
        divided(n_routed, n_ranks)
    assert divided(n_routed, nearest) == n_routed // nearest


T = 16


def rows(step: int, share: range) -> Batch:
    """Rows of a stream that is keyed by step and row."""
    keyed = [torch.Generator().manual_seed(1000 * step + row) for row in share]
    ids_BT = torch.stack([torch.randint(0, 9, (T,), generator=g).cumsum(0) % SPEC.vocab_size for g in keyed])
    doc_BT = (torch.arange(T) >= T // 3).int().expand(len(share), T)
    return Batch(ids_BT, ids_BT.roll(-1, 1), doc_BT)


def train(mesh, steps: range, dtype: torch.dtype, whole: dict[str, torch.Tensor] | None = None):
    """(losses, gradient norms, loads of each step, what a checkpoint has, telemetry) of a training."""
    model = Transformer(SPEC).initialise(3)
    with torch.no_grad():  # the way down begins at zero, and nothing would reach what is before it
        for name, parameter in model.named_parameters():
            if name.endswith(("w_down.weight", "w_o.weight")):
                generator = torch.Generator().manual_seed(parameter.numel())
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 20)
    model = spread(model.to(dtype), mesh)
    for layer in (m for m in model.modules() if isinstance(m, Experts)):
        layer.bias_E.data = layer.bias_E.float()
    optimizer = Optimizer(model, OptimConfig(), mesh)
    if whole is not None:
        optimizer.load(whole["optimizer"])
        for name, buffer in model.named_buffers():
            buffer.copy_(whole["buffers"][name])
    losses, norms, loads = [], [], []
    for step in steps:
        found = accumulate(model, [rows(step, mesh.share(8))], ObjectiveConfig(balance_weight=0.01), mesh)
        norms.append(reduce_gradients(mesh, optimizer))
        with patch("nomoat.train.optim.muon_dtype", lambda device: torch.float32):  # bf16 rounds far
            optimizer.step(1.0, norms[-1])
        found.after()
        losses.append(found.loss)
        loads.append(torch.stack(found.telemetry.pop("loads")))
    saved = {name: fsdp.whole(tensor) for name, tensor in optimizer.tensors().items()}
    end = {"optimizer": saved, "buffers": dict(model.named_buffers())}
    return losses, norms, loads, end, found.telemetry


def same(one, other, atol: float) -> None:
    """Two trainings are the same within `atol`, their routing biases to the bit."""
    (losses, norms, loads, end, _), (losses_2, norms_2, loads_2, end_2, _) = one, other
    assert losses == pytest.approx(losses_2, abs=atol)
    assert norms == pytest.approx(norms_2, rel=atol)
    assert all(map(torch.equal, loads, loads_2))
    for group, tensors in end.items():
        assert tensors.keys() == end_2[group].keys()
        for name, tensor in tensors.items():
            torch.testing.assert_close(tensor, end_2[group][name], rtol=0, atol=atol * (group == "optimizer"))


def test_a_training_with_experts_on_two_ranks_is_that_of_one():
    alone = train(ALONE, range(4), torch.float32)
    for found in ranks.run(train, 2, range(4), torch.float32, expert=2):
        same(found, alone, atol=1e-5)
        assert 1 < found[-1]["expert_ranks"] < found[-1]["expert_ranks_max"] == most_reached(SPEC.ffn, 2)


@pytest.mark.check
@pytest.mark.parametrize("axes", [{}, {"shard": 2}, {"replicate": 2}, {"expert": 4}], ids=str)
def test_and_over_fifty_steps_until_rounding_decides_between_two_experts(axes):
    """A token whose two experts score alike within rounding goes to either; from there on losses part."""
    axes = {"expert": 2, **axes}
    alone = train(ALONE, range(50), torch.float32)
    found = ranks.run(train, math.prod(axes.values()), range(50), torch.float32, seconds=600, **axes)[0]
    differ = [step for step, (a, b) in enumerate(zip(found[2], alone[2])) if not torch.equal(a, b)]
    n_same = differ[0] if differ else 50
    assert n_same >= 20
    assert found[0][:n_same] == pytest.approx(alone[0][:n_same], abs=5e-5)
    assert found[0] == pytest.approx(alone[0], abs=5e-3)


@pytest.mark.check
def test_a_training_goes_on_with_other_numbers_of_ranks():
    alone = train(ALONE, range(6), torch.float32)
    start = ranks.run(train, 2, range(2), torch.float32, expert=2)[0]
    further = ranks.run(train, 4, range(2, 4), torch.float32, start[3], expert=4)[1]
    end = train(ALONE, range(4, 6), torch.float32, further[3])
    together = [a + b + c for a, b, c in zip(start[:3], further[:3], end[:3])]
    same((*together, *end[3:]), alone, atol=1e-5)
