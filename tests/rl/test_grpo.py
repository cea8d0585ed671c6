"""Group relative policy optimisation: the packed update is the hand-written policy gradient."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from shapes import shape

from nomoat.engine import generate
from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer
from nomoat.rl import grpo, reward, rows
from nomoat.rl.rollout import Exercise, Rollout, sample
from nomoat.tasks import base, find
from nomoat.tokenizer import bpe

SPEC = shape(
    vocab_size=300, n_layers=2, d_model=16, n_heads=2, d_nope=8, d_rope=8, d_value=8, d_kv_latent=8, d_ffn=24,
    n_routed=4, n_active=2, d_expert=8, context=128, init_std=0.3,
)  # fmt: skip
PLAIN = grpo.Objective(max_new_tokens=1)  # every token weighs 1 / n_rollouts
OFF_POLICY = grpo.Objective(max_new_tokens=1, minibatches=2)


@pytest.fixture(scope="module")
def tokenizer():
    task = find.find("addition")
    stream = base.problems(task, 1, split="train", seed=0)
    return bpe.train([p.prompt + task.work(p) for p, _ in zip(stream, range(50))], 280)


@pytest.fixture(scope="module")
def model():
    model = Transformer(SPEC, Kernels(experts="wide")).initialise(0)
    for block in model.blocks:
        torch.nn.init.normal_(block.attention.w_o.weight, std=0.3, generator=torch.Generator().manual_seed(1))
        torch.nn.init.normal_(block.ffn.w_down.weight, std=0.3, generator=torch.Generator().manual_seed(2))
    return model


@pytest.fixture(scope="module")
def groups(model, tokenizer):
    task = find.find("addition")
    exercises = [Exercise("addition", 2, task, problem) for problem in problems_of(3)]
    return reward.judge(sample(model, tokenizer, exercises, group=6, max_new_tokens=17, seed=0))


def problems_of(n):
    return list(islice(base.problems(find.find("addition"), 2, split="train", seed=0), n))


def with_advantages(groups, advantages):
    """The same advantages for every group."""
    return [tuple(replace(j, advantage=a) for j, a in zip(group, advantages)) for group in groups]


def by_hand(model, groups, normaliser):
    """-1/normaliser sum_i A_i sum_t log p(o_it | prompt, o_i<t): REINFORCE (Williams 1992), one rollout at a
    time."""
    loss = 0.0
    for judged in (judged for group in groups for judged in group):
        rollout = judged.rollout
        ids_T = torch.cat((rollout.prompt_T, rollout.ids_T))
        logp = model(ids_T[None])[0].log_softmax(-1)
        picked = logp[:-1].gather(1, ids_T[1:, None])[:, 0]
        loss = loss - judged.advantage * picked[rollout.n_prompt - 1 :].sum() / normaliser
    return loss


@pytest.mark.parametrize("micro_tokens", [1, 60, 200, 10_000])
def test_on_policy_gradient_equals_reinforce_by_hand(model, groups, micro_tokens, monkeypatch):
    monkeypatch.setattr(rows, "MICRO_TOKENS", micro_tokens)
    groups = with_advantages(groups, [0.5, -0.5, 1.0, -1.0, 0.25, -0.25])
    model.zero_grad()
    by_hand(model, groups, 50.0).backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    update = grpo.gradient(model, groups, PLAIN, 50)
    for p, e in zip(model.parameters(), expected):
        torch.testing.assert_close(p.grad, e, rtol=1e-3, atol=1e-6)
    assert update.drift < 1e-4  # sampling and training are the same policy


def test_every_sampled_token_is_a_target_exactly_once(groups):
    n_targets = sum(len(rows.lay([row], torch.device("cpu")).target_M) for row in rows.pack(groups))
    assert n_targets == sum(judged.rollout.length for group in groups for judged in group)


def test_clipping_matters_only_off_policy(model, groups):
    groups = with_advantages(groups, [1.0, -1.0] * 3)
    grads = []
    for objective in (PLAIN, OFF_POLICY):
        model.zero_grad()
        grpo.gradient(model, groups, objective, 1)
        grads.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-5)


def test_a_clipped_token_has_no_gradient():
    """By hand: A = 1 and w = 1.5 lies outside 1 + 0.28, so the token is dropped; A = -1 and w = 1.5 is kept
    with w."""
    ids = torch.tensor([1, 4, 5, 9])
    model = Transformer(SPEC, Kernels(experts="wide")).initialise(3)
    logp = float(model(ids[None])[0].log_softmax(-1)[2, 9].detach())
    old = torch.tensor([logp - float(torch.tensor(1.5).log())])
    rollout = Rollout(None, ids[:3], ids[3:], old, "", "end")
    good, bad = ([(reward.Judged(rollout, None, 0.0, advantage),)] for advantage in (1.0, -1.0))
    norms = []
    for groups in (good, bad):
        model.zero_grad()
        grpo.gradient(model, groups, OFF_POLICY, 1)
        norms.append(float(model.head.weight.grad.norm()))
    model.zero_grad()
    grpo.gradient(model, bad, PLAIN, 1)
    assert norms[0] == 0
    assert norms[1] == pytest.approx(1.5 * float(model.head.weight.grad.norm()), rel=1e-3)


def test_a_sampler_and_a_gradient_in_bf16_agree_within_its_rounding(tokenizer):
    model = Transformer(SPEC.changed(init_std=0.05), Kernels(attention="plain")).initialise(0)
    exercises = [Exercise("addition", 2, find.find("addition"), problem) for problem in problems_of(3)]
    precision = generate.products_for("bf16", model.device)
    drawn = sample(model, tokenizer, exercises, group=6, max_new_tokens=17, seed=0, precision=precision)
    groups = with_advantages(reward.judge(drawn), [0.5, -0.5, 1.0, -1.0, 0.25, -0.25])
    learns = Transformer(model.spec, model.kernels)
    learns.load_state_dict(model.state_dict())
    update = grpo.gradient(learns.bfloat16(), groups, PLAIN, 18)
    assert 1e-6 < update.drift < 0.05
