"""Who draws and who updates makes no difference: the gradient of rollouts on two ranks is that of one."""

from functools import partial

import pytest
import ranks
import torch
from shapes import shape

from nomoat.config import parse
from nomoat.model.transformer import Transformer
from nomoat.parallel import fsdp
from nomoat.parallel.fsdp import spread
from nomoat.parallel.mesh import ALONE
from nomoat.rl import exchange, grpo
from nomoat.rl.reward import Judged, Score
from nomoat.rl.rollout import Rollout
from nomoat.stages import s6_distill
from nomoat.train.loop import reduce_gradients
from nomoat.train.optim import OptimConfig, Optimizer

SPEC = shape(
    vocab_size=40, n_layers=1, d_model=16, n_heads=2, d_nope=4, d_rope=4, d_value=4, d_kv_latent=8, d_ffn=24,
    context=64,
)  # fmt: skip


def judged(group, member):
    """A rollout of its own length."""
    g = torch.Generator().manual_seed(10 * group + member)
    ids_T = torch.randint(0, 40, (3 + 2 * group + member,), generator=g)
    logp_T = -3 - torch.rand(len(ids_T), generator=g)
    rollout = Rollout(None, torch.arange(4 + group), ids_T, logp_T, "", "end")
    return Judged(rollout, Score(), 0.0, 1.0 if member % 2 else -0.5)


def groups(n):
    return [tuple(judged(group, member) for member in range(4)) for group in range(n)]


def model_of(mesh, seed):
    model = Transformer(SPEC).initialise(seed)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            g = torch.Generator().manual_seed(number + seed)
            parameter += 0.1 * torch.randn(parameter.shape, generator=g)
    return model.requires_grad_(seed == 0)


def gradients(mesh, what, n):
    """(what a pass measured, the whole gradient) of an update that `n` groups are for."""
    model = spread(model_of(mesh, 0), mesh)
    other = spread(model_of(mesh, 1), mesh)
    optimizer = Optimizer(model, OptimConfig(), mesh)
    if what == "distill":
        measured = s6_distill.match_answers(s6_distill.Pair(model, other), groups(n), mesh)[0]
    else:
        objective = parse(grpo.Objective, {"variant": what, "minibatches": 2, "kl": 0.1}, "")
        update = grpo.gradient(model, groups(n), objective, 4 * n, partial(grpo.log_probs, other), mesh)
        measured = [update.loss, update.entropy, update.drift, update.kl]
    norm = reduce_gradients(mesh, optimizer)
    return measured, norm, [fsdp.whole(p.grad) for p in optimizer.params.values()]


@pytest.mark.parametrize(("what", "n"), [("gspo", 1), ("dr-grpo", 3), ("distill", 3)])
def test_the_gradient_of_rollouts_is_that_of_one_rank(what, n):
    """One row alone leaves a rank without any."""
    alone = gradients(ALONE, what, n)
    for axes in ({"shard": 2}, {}):
        measured, norm, grads = ranks.run(gradients, 2, what, n, **axes)[1]
        assert measured == pytest.approx(alone[0], rel=1e-5)
        assert norm == pytest.approx(alone[1], rel=1e-5)
        torch.testing.assert_close(grads, alone[2], rtol=1e-4, atol=1e-7)


def shared(mesh, n):
    """What every rank knows of the groups that each has drawn some of."""
    drawn = exchange.draw(mesh, [None] * n, lambda own: [groups(n)[i] for i in own])
    told = [[j.rollout.ids_T.tolist() for j in group] for group in drawn.groups]
    return told, [*drawn.own], exchange.idle_share([drawn]), [len(g) for g in exchange.deal(told, len, mesh)]


def test_all_ranks_know_what_each_has_drawn():
    expected = [[j.rollout.ids_T.tolist() for j in group] for group in groups(3)]
    found = ranks.run(shared, 2, 3)
    assert [told for told, *_ in found] == [expected, expected]
    assert [own for _, own, *_ in found] == [[0, 2], [1]]
    assert found[0][2] == found[1][2]
    assert 0 <= found[0][2] < 1
    assert sum(len(dealt) for *_, dealt in found) == 3


def test_the_idle_share_is_what_the_slowest_is_waited_for():
    rounds = [exchange.Drawn([], range(0), (2.0, 4.0)), exchange.Drawn([], range(0), (6.0, 6.0))]
    assert exchange.idle_share(rounds) == pytest.approx(0.1)
    assert exchange.idle_share([exchange.Drawn([], range(0), (3.0,))]) == 0
