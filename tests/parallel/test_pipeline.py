"""A model cut into stages learns what the whole one learns; the schedules wait as long as published."""

import math
import re
from collections import ChainMap, Counter
from dataclasses import replace
from unittest.mock import patch

import pytest
import ranks
import torch
from shapes import shape, varied

from nomoat.config import ConfigError
from nomoat.data.packing import Batch
from nomoat.model import counts
from nomoat.model.loss import IGNORED
from nomoat.model.transformer import Transformer
from nomoat.parallel.fsdp import spread, whole
from nomoat.parallel.pipeline import cut
from nomoat.parallel.schedules import KINDS, bubble, check, split
from nomoat.train.loop import reduce_gradients
from nomoat.train.objective import ObjectiveConfig, accumulate
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.whole import in_one_piece

SPEC = shape(
    vocab_size=64, n_layers=5, d_model=16, n_heads=2, d_nope=8, d_rope=4, d_value=8, d_kv_latent=8,
    d_q_latent=8, d_ffn=32, n_dense_layers=1, n_routed=4, n_active=2, d_expert=8, n_mtp=1, context=16,
)  # fmt: skip
OBJECTIVE = ObjectiveConfig(balance_weight=0.01, balance_speed=0.01)
TIMES = {"F": 1, "B": 2, "I": 1, "W": 1}  # of a stage; a backward pass is inputs' and weights'
DOES = {"F": "forward", "B": "backward", "I": "backward", "W": "weights"}


@pytest.mark.parametrize("schedule", KINDS)
def test_the_bubble_is_as_published(schedule):
    published = [bubble(schedule, p, m) for p, m in ((2, 4), (4, 8), (4, 19))]
    measured = ranks.run(bubbles, 1, schedule, ((2, 4), (4, 8), (4, 19)))[0]
    assert measured == pytest.approx(published)
    assert measured[1] == pytest.approx({"1f1b": 3 / 11, "zbv": 3 / 51, "dualpipev": 6 / 54}[schedule])


def bubbles(mesh, schedule, cases):
    """The share of a step that torch's own order of actions leaves idle."""
    import torch
    import torch.distributed as dist
    from torch.distributed.pipelining import PipelineStage
    from torch.distributed.pipelining.schedules import get_schedule_class
    from torch.testing._internal.distributed.fake_pg import FakeStore

    shares, kind = [], KINDS[schedule]
    for p, m in cases:
        dist.init_process_group("fake", rank=0, world_size=p, store=FakeStore())
        n = p * kind.n_chunks
        here = sorted({0, n - 1 if n > p else 0})
        stages = [PipelineStage(torch.nn.Identity(), i, n, mesh.device) for i in here]
        order = get_schedule_class(kind.name)(stages if n > p else stages[0], m).pipeline_order
        shares.append(idle([actions(order[rank]) for rank in range(p)], n))
        dist.destroy_process_group()
    return shares


def actions(listed):
    """What a rank does one after the other, each some (stage, kind, microbatch) at once.

    A stage takes its microbatches in order: torch's list for the last stage of 1F1B counts them from 1.
    """
    out, seen = [], Counter()
    for action in listed:
        together = re.findall(r"(\d+)([FBIW])\d", str(action))
        if together:
            out.append([(int(stage), kind, seen[stage, DOES[kind]]) for stage, kind in together])
            seen.update((stage, DOES[kind]) for stage, kind in together)
    return out


def idle(order, n_stages):
    """The share of the ranks' time that is lost; an action begins once its rank and its input allow."""
    done, clock, left = {}, [0] * len(order), [list(listed) for listed in order]
    while any(left):
        ready = (r for r, todo in enumerate(left) if todo and needs(todo[0], n_stages) <= done.keys())
        rank = next(ready)
        together = left[rank].pop(0)
        begin = max([clock[rank], *(done[need] for need in needs(together, n_stages))])
        clock[rank] = begin + sum(TIMES[kind] for _, kind, _ in together)
        done |= {(stage, DOES[kind], part): clock[rank] for stage, kind, part in together}
    busy = sum(TIMES[kind] for listed in order for together in listed for _, kind, _ in together)
    return 1 - busy / (len(order) * max(clock))


def needs(together, n_stages):
    """What the stages before gave forwards and those behind backwards."""
    towards = {"F": -1, "B": 1, "I": 1}
    sources = ((stage + towards[kind], DOES[kind], part) for stage, kind, part in together if kind != "W")
    return {source for source in sources if 0 <= source[0] < n_stages}


@pytest.mark.parametrize("n_stages", [1, 2, 3, 5])
def test_stages_are_balanced_by_counted_flops(n_stages):
    def cost(blocks):
        own = sum(counts.layer_flops(SPEC, layer, 8) for layer in blocks)
        tail = counts.flops_forward(SPEC, 8) + counts.flops_mtp(SPEC, 8)
        tail -= sum(counts.layer_flops(SPEC, layer, 8) for layer in range(5))
        return own + (tail if 4 in blocks else 0)

    cut = split(SPEC, n_stages, 8)
    assert [layer for blocks in cut for layer in blocks] == list(range(5))
    assert all(cut)
    slowest = max(map(cost, cut))
    for place in range(n_stages - 1):  # no boundary moved by a block makes the slowest faster
        first, second = cut[place], cut[place + 1]
        for end in (first.stop - 1, first.stop + 1):
            moved = [range(first.start, end), range(end, second.stop)]
            if all(moved):
                assert max(map(cost, [*cut[:place], *moved, *cut[place + 2 :]])) >= slowest


@pytest.mark.parametrize(
    ("schedule", "n_ranks", "n_parts", "found", "nearest"),
    [
        ("1f1b", 6, 6, "one of 5 blocks", "pipeline = 5"),
        ("dualpipev", 3, 9, "6 stages, found one of 5 blocks", "pipeline = 2"),
        ("1f1b", 4, 3, "found 3 microbatches", "at least: 4"),
        ("zbv", 2, 3, "found 3 microbatches", "at least: 4"),
    ],
)
def test_too_few_blocks_or_microbatches_are_a_clear_error(schedule, n_ranks, n_parts, found, nearest):
    with pytest.raises(ConfigError) as error:
        check(SPEC, schedule, n_ranks, n_parts)
    assert found in str(error.value)
    assert "expected" in str(error.value)
    assert nearest in str(error.value)


def batch(step, rows):
    """Random documents of a small vocabulary, two a row; a fifth of the tokens isn't trained."""
    draw = torch.Generator().manual_seed(step)
    ids_BT = torch.randint(8, (rows, 17), generator=draw)
    targets_BT = ids_BT[:, 1:].masked_fill(torch.rand(rows, 16, generator=draw) < 0.2, IGNORED)
    ends = torch.randint(2, 15, (rows, 1), generator=draw)
    return Batch(ids_BT[:, :-1].contiguous(), targets_BT, (torch.arange(16) >= ends).int())


def course(mesh, steps, rows, n_parts, schedule, changes, begun=None):
    """The losses, largest loads and gradient norms of a short training, its weights, and what a checkpoint
    has of it; goes on from one that has `begun`."""
    spec = varied(SPEC, **changes)
    model = Transformer(spec).initialise(1)
    pipeline = cut(model, replace(mesh, axes=mesh.axes.model_copy(update={"schedule": schedule})), 8)
    model = spread(model, mesh, root=pipeline and pipeline.stage, summed=True)
    optimizer, log = Optimizer(model, OptimConfig(), mesh, pipeline), []
    if begun:
        optimizer.load(begun)
        for name, buffer in model.named_buffers():
            buffer.copy_(begun[name])
    for step in range(optimizer.steps, optimizer.steps + steps):
        drawn = batch(step, rows)
        columns = [t.chunk(mesh.data_world * n_parts) for t in (drawn.ids_BT, drawn.targets_BT, drawn.doc_BT)]
        mine = [Batch(*some) for some in zip(*columns)][mesh.data_rank * n_parts :][:n_parts]
        computed = accumulate(model, mine, OBJECTIVE, mesh, pipeline)
        norm = reduce_gradients(mesh, optimizer)
        with patch("nomoat.train.optim.muon_dtype", lambda device: torch.float32):  # bf16 rounds far
            optimizer.step(1.0, norm)
        computed.after()
        told = computed.telemetry
        log.append((computed.loss, told.get("mtp_loss", 0.0), told.get("load_max", 0.0), norm))
    saved = {**optimizer.tensors(), **dict(model.named_buffers())}
    everyones = mesh.gather({name: whole(tensor) for name, tensor in saved.items()})
    plain = in_one_piece(model, optimizer)
    tensors = [*plain.named_parameters(), *plain.named_buffers()]
    return log, {name: tensor.detach() for name, tensor in tensors}, dict(ChainMap(*everyones))


def apart(found, alone):
    """The largest relative difference in the log, and of weights, of each tensor's largest number."""
    (log, weights, _), (log_alone, weights_alone, _) = found, alone
    assert weights.keys() == weights_alone.keys()
    told = max(abs(a / b - 1) for here, there in zip(log, log_alone) for a, b in zip(here, there) if b)
    ratios = [(w - weights_alone[n]).abs().max() / weights_alone[n].abs().max() for n, w in weights.items()]
    return told, float(max(ratios))


NARROW = {"n_layers": 3}  # of two stages


def test_a_pipeline_trains_as_one_rank():
    """Both ends read the embedding, for the extra depth, so that its gradient is summed in another order."""
    alone = ranks.run(course, 1, 50, 2, 2, "1f1b", NARROW)[0]
    both = ranks.run(course, 2, 50, 2, 2, "1f1b", NARROW, pipeline=2)
    assert alone[0][-1][0] < 0.8 * alone[0][0][0]  # it learns
    for found in both:
        told, weights = apart(found, alone)
        assert told < 1e-5
        assert weights < 1e-2
    assert all(torch.equal(there, both[1][1][name]) for name, there in both[0][1].items())


def test_it_does_so_to_the_bit_where_sums_keep_their_order():
    changes = NARROW | {"n_mtp": 0}
    alone = ranks.run(course, 1, 6, 2, 2, "1f1b", changes)[0]
    for found in ranks.run(course, 2, 6, 2, 2, "1f1b", changes, pipeline=2):
        told, weights = apart(found, alone)
        assert told < 1e-14  # sums of logged parts and of norms, in float64
        assert weights == 0
    first = ranks.run(course, 2, 3, 2, 2, "1f1b", changes, pipeline=2)[0]
    then = ranks.run(course, 1, 3, 2, 2, "1f1b", changes, first[2])[0]  # a checkpoint of two goes on with one
    assert apart(then, (alone[0][3:], *alone[1:]))[1] == 0


def test_stages_in_parts_with_their_experts_on_two_ranks_train_as_one_rank():
    """Two by two ranks: in a stage everything lies in two parts, and tokens go to their experts."""
    alone = ranks.run(course, 1, 2, 4, 4, "1f1b", NARROW)[0]
    for found in ranks.run(course, 4, 2, 4, 2, "1f1b", NARROW, pipeline=2, expert=2):
        told, weights = apart(found, alone)
        assert told < 1e-5
        assert weights < 1e-2


@pytest.mark.check
@pytest.mark.parametrize(
    ("schedule", "changes", "n_parts", "axes"),
    [
        ("zbv", {}, 4, {"pipeline": 2}),
        ("dualpipev", {}, 5, {"pipeline": 2}),
        ("1f1b", {"tied": True}, 4, {"pipeline": 2}),
        ("1f1b", {"tied": True, "n_mtp": 0}, 3, {"pipeline": 3}),
        ("zbv", {"tied": True}, 4, {"pipeline": 2}),
        ("dualpipev", {"n_mtp": 2}, 4, {"pipeline": 2}),
        ("dualpipev", {"n_routed": 0, "n_mtp": 0, "tied": True}, 4, {"pipeline": 2}),
        ("1f1b", {}, 4, {"pipeline": 4}),
        ("1f1b", {"n_mtp": 2}, 2, {"pipeline": 2, "replicate": 2}),
        ("dualpipev", {"n_layers": 9}, 8, {"pipeline": 4}),
        ("zbv", {}, 4, {"pipeline": 2, "replicate": 2}),
        ("1f1b", {}, 4, {"pipeline": 2, "shard": 2}),
        ("1f1b", {"tied": True, "n_routed": 0}, 2, {"pipeline": 2, "shard": 2}),
        ("1f1b", {}, 2, {"pipeline": 2, "expert": 2}),
        ("1f1b", {"n_mtp": 0}, 3, {"pipeline": 3, "shard": 2}),
        ("1f1b", {}, 2, {"pipeline": 2, "shard": 2, "replicate": 2}),
    ],
)
def test_every_schedule_and_mesh_trains_as_one_rank(schedule, changes, n_parts, axes):
    world = math.prod(axes.values())
    rows = n_parts * world // axes["pipeline"]
    steps = 50 if world == 4 else 15
    alone = ranks.run(course, 1, steps, rows, rows, "1f1b", changes, seconds=300)[0]
    for found in ranks.run(course, world, steps, rows, n_parts, schedule, changes, seconds=300, **axes):
        told, weights = apart(found, alone)
        assert told < 1e-5
        assert weights < 1e-2
