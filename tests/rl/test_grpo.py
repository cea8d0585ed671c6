"""Group relative policy optimisation: the packed update is the hand-written policy gradient."""

import pytest
import torch
from shapes import shape

from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer
from nomoat.rl import grpo, reward
from nomoat.rl.rollout import Rollout, sample_groups, text_of
from nomoat.tasks import base, find
from nomoat.tokenizer import bpe, layout

SPEC = shape(
    vocab_size=300, n_layers=2, d_model=16, n_heads=2, d_nope=8, d_rope=8, d_value=8, d_kv_latent=8, d_ffn=24,
    n_routed=4, n_active=2, d_expert=8, context=128, init_std=0.3,
)  # fmt: skip


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
    stream = base.problems(task, 2, split="train", seed=0)
    entries = [(task, 2, next(stream)) for _ in range(3)]
    return sample_groups(model, tokenizer, entries, group=6, max_new_tokens=17, seed=0)


def by_hand(model, groups, advantages, normaliser):
    """-1/normaliser sum_i A_i sum_t log p(o_it | prompt, o_i<t): REINFORCE (Williams 1992), one rollout at a time."""
    loss = 0.0
    for group, values in zip(groups, advantages):
        for rollout, value in zip(group, values):
            logp = model(rollout.ids_T[None])[0].log_softmax(-1)
            picked = logp[:-1].gather(1, rollout.ids_T[1:, None])[:, 0]
            loss = loss - value * picked[rollout.sampled_T[1:]].sum() / normaliser
    return loss


@pytest.mark.parametrize("row_tokens", [1, 60, 10_000])
def test_on_policy_gradient_equals_reinforce_by_hand(model, groups, row_tokens, monkeypatch):
    monkeypatch.setattr(grpo, "ROW_TOKENS", row_tokens)
    monkeypatch.setattr(grpo, "MICRO_TOKENS", 200)
    advantages = [[0.5, -0.5, 1.0, -1.0, 0.25, -0.25]] * 3
    model.zero_grad()
    by_hand(model, groups, advantages, 50.0).backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    weights = [[1 / 50.0] * 6] * 3
    update = grpo.policy_gradient(model, grpo.pack(groups, advantages, weights), layout.NOMOAT.pad_id)
    for p, e in zip(model.parameters(), expected):
        torch.testing.assert_close(p.grad, e, rtol=1e-3, atol=1e-6)
    assert update.drift < 1e-4  # sampling and training are the same policy


def test_every_sampled_token_is_a_target_exactly_once(groups):
    rows = grpo.pack(groups)
    assert sum(len(r.target_M) for r in rows) == sum(r.length for g in groups for r in g)


def test_clipping_matters_only_off_policy(model, groups):
    advantages = [[1.0, -1.0] * 3] * 3
    rows = grpo.pack(groups, advantages)
    grads = []
    for off_policy in (False, True):
        model.zero_grad()
        grpo.policy_gradient(model, rows, layout.NOMOAT.pad_id, off_policy=off_policy)
        grads.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-5)


def test_a_clipped_token_has_no_gradient():
    """By hand: A = 1 and w = 1.5 lies outside 1 + 0.28, so the token is dropped; A = -1 and w = 1.5 is kept with w."""
    ids = torch.tensor([1, 4, 5, 9])
    sampled = torch.tensor([False, False, False, True])
    model = Transformer(SPEC, Kernels(experts="wide")).initialise(3)
    logp = float(model(ids[None])[0].log_softmax(-1)[2, 9].detach())
    old = torch.tensor([0.0, 0.0, 0.0, logp - float(torch.tensor(1.5).log())])
    rollout = Rollout(find.find("addition"), 1, None, ids, sampled, old, "end")
    norms = {}
    for value in (1.0, -1.0):
        model.zero_grad()
        grpo.policy_gradient(model, grpo.pack([[rollout]], [[value]]), layout.NOMOAT.pad_id, off_policy=True)
        norms[value] = float(model.head.weight.grad.norm())
    model.zero_grad()
    grpo.policy_gradient(model, grpo.pack([[rollout]], [[-1.0]]), layout.NOMOAT.pad_id)
    assert norms[1.0] == 0
    assert norms[-1.0] == pytest.approx(1.5 * float(model.head.weight.grad.norm()), rel=1e-3)


def answer(tokenizer, problem, text, stop="end"):
    prompt = layout.render(tokenizer, [layout.Message("user", problem.prompt)], generate=True).ids
    ids = []
    for number, piece in enumerate(text.split("|")):
        ids += [[], [layout.NOMOAT.think_id], [layout.NOMOAT.end_think_id]][number] + tokenizer.encode(piece)
    ids += [layout.NOMOAT.eos_id] if stop == "end" else []
    sampled = torch.tensor([False] * len(prompt) + [True] * len(ids))
    task = find.find("addition")
    return Rollout(task, 2, problem, torch.tensor(prompt + ids), sampled, torch.zeros(len(prompt + ids)), stop)


def test_right_in_the_right_form_is_strict_right_in_any_form_is_lenient(tokenizer):
    problem = next(base.problems(find.find("addition"), 2, split="train", seed=5))
    good = problem.witness
    cases = {
        f"|1+1|{good}": (True, True),
        f"|1+1|Answer: {good}": (False, True),
        "|1+1|999": (False, False),
        good: (True, True),
        "": (False, False),
    }
    score_of = lambda rollout: reward.scores([[rollout]], tokenizer)[0][0]
    for text, expected in cases.items():
        score = score_of(answer(tokenizer, problem, text))
        assert (score.strict, score.lenient) == expected, text
    assert not score_of(answer(tokenizer, problem, f"|1+1|{good}", stop="length")).strict


def test_what_the_policy_wrote_is_read_back(tokenizer):
    problem = next(base.problems(find.find("addition"), 2, split="train", seed=6))
    assert text_of(answer(tokenizer, problem, "|7+2|9"), tokenizer) == "<think>7+2</think>9"
