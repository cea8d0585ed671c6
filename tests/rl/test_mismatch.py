"""Laws of the weights of an outside sampler's tokens."""

import math
from dataclasses import replace

import pytest
import ranks
import torch
from shapes import shape

from nomoat.model.transformer import Transformer
from nomoat.parallel import fsdp
from nomoat.parallel.mesh import ALONE
from nomoat.rl import grpo, mismatch
from nomoat.rl.reward import Judged, Score
from nomoat.rl.rollout import Rollout
from nomoat.train.loop import reduce_gradients
from nomoat.train.optim import OptimConfig, Optimizer

SPEC = shape(
    vocab_size=40, n_layers=1, d_model=16, n_heads=2, d_nope=4, d_rope=4, d_value=4, d_kv_latent=8, d_ffn=24,
    context=64,
)  # fmt: skip
ONE = grpo.Objective(max_new_tokens=1)  # every token weighs 1 / n_rollouts


def groups(model, shift):
    """Rollouts whose sampler's log-probabilities lie `shift` times a random number beside the model's."""
    out = []
    for number in range(3):
        group = []
        for member in range(2):
            g = torch.Generator().manual_seed(10 * number + member)
            prompt_T = torch.arange(3 + number)
            ids_T = torch.randint(0, 40, (4 + number + member,), generator=g)
            logp_T = told(model, prompt_T, ids_T) - shift * torch.randn(len(ids_T), generator=g)
            rollout = Rollout(None, prompt_T, ids_T, logp_T, "", "end")
            group.append(Judged(rollout, Score(), 0.0, 1.0 if member else -0.5))
        out.append(tuple(group))
    return out


@torch.no_grad()
def told(model, prompt_T, ids_T):
    """log p of each id, one rollout at a time."""
    logp = model(torch.cat((prompt_T, ids_T))[None])[0].log_softmax(-1)
    return logp[len(prompt_T) - 1 : -1].gather(1, ids_T[:, None])[:, 0]


def made(seed=0):
    return Transformer(SPEC).initialise(seed)


def gradient(model, groups, objective=ONE):
    model.zero_grad()
    update = grpo.gradient(model, groups, objective, 6)
    return update, [p.grad.clone() for p in model.parameters()]


def test_weights_and_figures_by_hand():
    d_M = torch.tensor([0.0, math.log(4), -math.log(2)])
    assert mismatch.weights(d_M, 2.0).tolist() == pytest.approx([1.0, 2.0, 0.5])
    found = mismatch.measured(d_M, 2.0)
    assert found.gap == pytest.approx(math.log(2))
    assert found.largest == pytest.approx(math.log(4))
    assert found.kl == pytest.approx((1 + 4 + 0.5 - 3 - math.log(2)) / 3)
    assert found.effective == pytest.approx(5.5**2 / (1 + 16 + 0.25) / 3)
    assert (found.clipped, found.tokens) == (pytest.approx(1 / 3), 3)
    assert mismatch.measured(torch.empty(0), 2.0).gap == 0
    assert math.isfinite(mismatch.measured(torch.tensor([9998.0, 0.0]), 2.0).effective)


def test_tokens_of_an_exact_sampler_weigh_one_and_their_gradient_is_that_of_ones_own():
    model = made()
    own = groups(model, 0.0)
    weighed, found = mismatch.weighed(model, own, 1.0, 2.0, ALONE)
    assert (found.gap < 1e-5, found.clipped) == (True, 0)
    for group in weighed:
        for judged in group:
            ones_T = torch.ones(judged.rollout.length)
            torch.testing.assert_close(judged.rollout.weight_T, ones_T, rtol=0, atol=1e-5)
    for objective in (ONE, ONE.model_copy(update={"minibatches": 2})):
        update, grads = gradient(model, own, objective)
        other, others = gradient(model, weighed, objective)
        assert other.loss == pytest.approx(update.loss, rel=1e-4)
        torch.testing.assert_close(others, grads, rtol=1e-4, atol=1e-7)


def test_the_gradient_is_that_of_truncated_weights_by_hand():
    model = made()
    drawn = groups(model, 1.0)
    weighed, found = mismatch.weighed(model, drawn, 1.0, 1.5, ALONE)
    assert 0 < found.clipped < 1
    update, grads = gradient(model, weighed)
    assert update.drift < 1e-5  # to the learner, not to the sampler
    model.zero_grad()
    loss = 0.0
    for group in drawn:
        for judged in group:
            r = judged.rollout
            logp = model(torch.cat((r.prompt_T, r.ids_T))[None])[0].log_softmax(-1)
            logp_T = logp[r.n_prompt - 1 : -1].gather(1, r.ids_T[:, None])[:, 0]
            weight_T = (logp_T.detach() - r.logp_T).exp().clamp(max=1.5)
            loss = loss - judged.advantage * (weight_T * logp_T).sum() / 6
    loss.backward()
    torch.testing.assert_close(grads, [p.grad for p in model.parameters()], rtol=1e-4, atol=1e-7)


def on_ranks(mesh):
    """Weights and figures of rollouts, and their gradient, with a model that lies in parts."""
    whole = made()
    model = fsdp.spread(made(), mesh)
    optimizer = Optimizer(model, OptimConfig(), mesh)
    weighed, found = mismatch.weighed(model, groups(whole, 1.0), 1.0, 1.5, mesh)
    grpo.gradient(model, weighed, ONE, 6, mesh=mesh)
    reduce_gradients(mesh, optimizer)
    weights = [judged.rollout.weight_T for group in weighed for judged in group]
    return found, weights, [fsdp.whole(p.grad) for p in optimizer.params.values()]


@pytest.mark.parametrize("axes", [{}, {"shard": 2}])
def test_who_measures_makes_no_difference(axes):
    alone = on_ranks(ALONE)
    for found in ranks.run(on_ranks, 2, **axes):
        assert replace(found[0], gap=0, largest=0, kl=0, effective=0) == replace(
            alone[0], gap=0, largest=0, kl=0, effective=0
        )
        assert found[0].gap == pytest.approx(alone[0].gap, rel=1e-5)
        torch.testing.assert_close(found[1], alone[1], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found[2], alone[2], rtol=1e-4, atol=1e-7)
