"""Each descendant of GRPO against a worked example by hand, and as a gradient against the formula by
autograd."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from shapes import shape

from nomoat.model.transformer import Transformer
from nomoat.rl import grpo, variants
from nomoat.rl.reward import Judged
from nomoat.rl.rollout import Rollout
from nomoat.rl.variants import VARIANTS

REWARDS = [[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]


def near(rows):
    return [pytest.approx(row, abs=1e-4) for row in rows]


def test_advantages_by_hand():
    """Group one has mean 1/4 and standard deviation sqrt(3)/4; the batch has mean 5/8, deviation
    sqrt(15)/8."""
    s3, s15 = math.sqrt(3), math.sqrt(15)
    assert variants.centred(REWARDS) == near([[3 / 4, -1 / 4, -1 / 4, -1 / 4], [0] * 4])
    assert variants.standardised(REWARDS) == near([[s3, -1 / s3, -1 / s3, -1 / s3], [0] * 4])
    assert variants.leave_one_out(REWARDS) == near([[1, -1 / 3, -1 / 3, -1 / 3], [0] * 4])
    assert variants.batch_standardised(REWARDS) == near(
        [[3 / s15, -5 / s15, -5 / s15, -5 / s15], [3 / s15] * 4]
    )


@pytest.mark.parametrize("rewards", [[1.0] * 8, [0.0] * 8, [0.3] * 7])
@pytest.mark.parametrize("advantage", [variants.centred, variants.standardised, variants.leave_one_out])
def test_a_group_that_is_all_right_or_all_wrong_gives_nothing(rewards, advantage):
    assert advantage([rewards]) == [pytest.approx([0.0] * len(rewards), abs=1e-9)]


def test_weights_by_hand():
    """Eight rollouts, 20 tokens together, ten tokens at most."""
    sizes = variants.Sizes(n_rollouts=8, n_tokens=20, longest=10)
    for length in (2, 4, 6, 1):
        assert variants.constant(length, sizes) == 1 / 80
        assert variants.by_sequence(length, sizes) == 1 / (8 * length)
        assert variants.by_token(length, sizes) == 1 / 20


def test_surrogates_by_hand():
    w = torch.tensor([0.5, 1.0, 1.25, 1.5, 7.0] * 2)
    a = torch.tensor([2.0] * 5 + [-2.0] * 5)
    by_hand = {
        "clipped": [1.0, 2.0, 2.5, 0, 0, 0, -2.0, -2.5, -3.0, -14.0],  # bounds 0.8 and 1.28
        "truncated": [1.0, 2.0, 2.5, 3.0, 10.0, -1.0, -2.0, -2.5, -3.0, -10.0],  # bound 5
        "plain": [2.0] * 5 + [-2.0] * 5,
    }
    bounds = {"clipped": (0.2, 0.28), "truncated": (0.0, 5.0), "plain": (0.0, 0.0)}
    for name, expected in by_hand.items():
        assert getattr(variants, name)(w, a, bounds[name]).tolist() == pytest.approx(expected)


SPEC = shape(
    vocab_size=40, n_layers=2, d_model=16, n_heads=2, d_nope=8, d_rope=8, d_value=8, d_kv_latent=8, d_ffn=24,
    context=64, init_std=0.3,
)  # fmt: skip


def off_policy_rollouts():
    """Two groups of two, whose old log-probabilities are the model's own but for a known gap on each
    token."""
    model = Transformer(SPEC).initialise(0)
    torch.nn.init.normal_(model.head.weight, std=0.3, generator=torch.Generator().manual_seed(3))
    rng = torch.Generator().manual_seed(1)
    groups = []
    for _ in range(2):
        prompt = torch.randint(8, 40, (4,), generator=rng)
        group = []
        for length in (3, 6):
            ids = torch.cat((prompt, torch.randint(8, 40, (length,), generator=rng)))
            rollout = Rollout(None, ids[:4], ids[4:], torch.zeros(length), "", "end")
            with torch.no_grad():
                logp = log_probs(model, rollout)
            gap = torch.randn(len(ids), generator=rng) * 0.4
            group.append(replace(rollout, logp_T=logp - gap[4:]))
        groups.append(group)
    return model, groups


def log_probs(model, rollout, temperature=1.0):
    """Of each token that the policy wrote."""
    ids = torch.cat((rollout.prompt_T, rollout.ids_T))
    logp = (model(ids[None])[0] / temperature).log_softmax(-1)[:-1].gather(1, ids[1:, None])[:, 0]
    return logp[rollout.n_prompt - 1 :]


def judged(groups, advantages):
    pairs = (zip(group, values) for group, values in zip(groups, advantages))
    return [tuple(Judged(rollout, None, 0.0, a) for rollout, a in pair) for pair in pairs]


def objective(name, model, groups, advantages):
    """The published objective, written down once more for autograd: one rollout at a time."""
    flat = [(r, a) for group, values in zip(groups, advantages) for r, a in zip(group, values)]
    n, total, longest = len(flat), sum(r.length for r, _ in flat), 8
    loss = 0.0
    for r, a in flat:
        logp = log_probs(model, r)
        w = (logp - r.logp_T).exp()
        low, high = VARIANTS[name].bounds
        if name == "gspo":
            s = w.log().mean().exp()
            loss = loss - torch.minimum(s * a, s.clamp(1 - low, 1 + high) * a) / n
            continue
        if name == "cispo":
            token = w.detach().clamp(max=high) * a * logp
        elif name == "rloo":
            token = a * logp
        else:
            token = torch.minimum(w * a, w.clamp(1 - low, 1 + high) * a)
        share = {"dr-grpo": 1 / (n * longest), "rloo": 1 / (n * longest), "grpo": 1 / (n * r.length)}.get(
            name, 1 / total
        )
        loss = loss - share * token.sum()
    return loss


@pytest.mark.parametrize("name", VARIANTS)
def test_the_gradient_is_that_of_the_published_objective(name):
    model, groups = off_policy_rollouts()
    variant = VARIANTS[name]
    advantages = variant.advantage([[1.0, 0.0], [0.0, 1.0]])
    objective(name, model, groups, advantages).backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    off_policy = grpo.Objective(variant=name, max_new_tokens=8, minibatches=2)
    grpo.gradient(model, judged(groups, advantages), off_policy, 4)
    for n, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[n], rtol=1e-3, atol=1e-6)


def test_the_kl_term_is_the_k3_estimator_and_vanishes_at_the_reference():
    model, groups = off_policy_rollouts()
    reference = Transformer(SPEC).initialise(5)
    still = judged(groups, [[0.0, 0.0]] * 2)
    pulled = grpo.Objective(kl=0.1, max_new_tokens=1)
    loss = 0.0
    for r in (r for g in groups for r in g):
        log_r = log_probs(reference, r).detach() - log_probs(model, r)
        loss = loss + 0.1 * (log_r.exp() - log_r - 1).sum()
    loss.backward()
    expected = model.head.weight.grad.clone()
    model.zero_grad()
    update = grpo.gradient(model, still, pulled, 1, partial(grpo.log_probs, reference))
    torch.testing.assert_close(model.head.weight.grad, expected, rtol=1e-3, atol=1e-6)
    assert update.kl * 18 * 0.1 == pytest.approx(float(loss.detach()), rel=1e-4)
    model.zero_grad()
    alike = grpo.gradient(model, still, pulled, 1, partial(grpo.log_probs, model))
    assert alike.kl == pytest.approx(0, abs=1e-6)


def test_temperature_divides_the_logits():
    model, groups = off_policy_rollouts()
    rollout = groups[0][0]
    with torch.no_grad():
        rollout = replace(rollout, logp_T=log_probs(model, rollout, temperature=0.5))
    assert grpo.gradient(model, judged([[rollout]], [[1.0]]), grpo.Objective(temperature=0.5), 1).drift < 1e-5
