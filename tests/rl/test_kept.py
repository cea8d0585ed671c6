"""Talk beside the policy gradient: its rows, and its gradient as the objective of training has it."""

import pytest
import torch

from nomoat.data.conversation import LANGS, fold, topics, wordings
from nomoat.model.loss import IGNORED
from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer
from nomoat.rl import kept
from nomoat.tokenizer import bpe
from nomoat.tokenizer.layout import render_batch, render_latest
from nomoat.train.objective import ObjectiveConfig, document_mask, gradient
from tests.shapes import shape

LEVELS = {"addition": [1]}


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train(
        ["Hello! I am nomoat, a tiny model. Hallo! Ich bin ein kleines Modell."] * 3, 300
    )


@pytest.fixture(scope="module")
def model(tokenizer):
    spec = shape(
        vocab_size=tokenizer.vocab_size, d_model=16, n_layers=1, d_ffn=16, context=128, n_heads=2, d_nope=4,
        d_rope=4, d_value=4, d_kv_latent=8, tied=False,
    )  # fmt: skip
    return Transformer(spec, Kernels()).initialise(1)


def test_half_of_the_talk_stands_behind_problems_and_none_in_held_out_words():
    talks = kept.drawn(LEVELS, 40, 3)
    assert talks == kept.drawn(LEVELS, 40, 3) != kept.drawn(LEVELS, 40, 4)
    said = {answer[lang] for t in topics().values() for answer in t.answers for lang in LANGS}
    assert all(turns[-1].content in said for turns in talks)
    asked = {fold(turn.content) for turns in talks for turn in turns if turn.role == "user"}
    held = {
        fold(w)
        for t in topics().values()
        for x in LANGS
        for w in wordings(t.asked[x], "heldout")
    }
    assert not asked & held
    assert sum(any(turn.thinking == "" for turn in turns) for turns in talks) > 10


def test_rows_hold_each_conversation_once(tokenizer):
    rendered = render_batch(tokenizer, kept.drawn(LEVELS, 12, 0), generate=False)
    widest = max(len(r.ids) for r in rendered)
    batch = kept.rows(rendered, widest, 0)
    assert batch.ids_BT.shape[1] == widest
    found = []
    for b in range(len(batch.ids_BT)):
        for n in range(int(batch.doc_BT[b].max()) + 1):
            inside = batch.doc_BT[b] == n
            found.append(
                (batch.ids_BT[b][inside].tolist(), batch.targets_BT[b][inside].tolist())
            )
    expected = [
        (r.ids, [*(i if t else IGNORED for i, t in zip(r.ids[1:], r.trained[1:])), IGNORED])
        for r in rendered
    ]
    assert sorted(found) == sorted(expected)
    assert int((batch.targets_BT != IGNORED).sum()) == sum(sum(r.trained) for r in rendered)


def test_the_gradient_is_the_weighted_one_of_training_on_the_same_rows(tokenizer, model):
    n, weight = 6, 0.25
    model.zero_grad()
    longest = model.spec.context
    batch = kept.talk(tokenizer, LEVELS, n, longest, seed=5)
    found = kept.gradient(model, batch, weight)
    ours = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    latest = render_latest(tokenizer, kept.drawn(LEVELS, n, 5), longest, generate=False)
    rendered = [r for r in latest if len(r.ids) <= longest]
    assert rendered
    model.zero_grad()
    trained = gradient(model, kept.rows(rendered, longest, 5), ObjectiveConfig(balance_weight=0.0))
    assert found.loss == pytest.approx(trained.loss)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name], weight * parameter.grad)


def test_without_room_nothing_is_kept(tokenizer):
    assert kept.talk(tokenizer, LEVELS, 3, 4, seed=0) is None


def test_replies_are_held_to_a_reference_by_the_divergence_from_it(tokenizer, model):
    """KL(reference || model) at the columns whose next token is a reply's, as autograd has it."""
    batch = kept.talk(tokenizer, LEVELS, 6, model.spec.context, seed=5)
    reference = Transformer(model.spec, Kernels()).initialise(7).eval()
    assert kept.gradient(model, batch, 0.25, reference=model).loss == pytest.approx(0, abs=1e-6)
    model.zero_grad()
    found = kept.gradient(model, batch, 0.25, reference=reference)
    ours = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    def logs(of):
        h_BTD, _ = of.hidden(batch.ids_BT, mask=document_mask(batch.doc_BT))
        return (of.final(h_BTD) @ of.head.weight.T).log_softmax(-1)[batch.targets_BT != IGNORED]

    wanted = logs(reference).detach()
    loss = (wanted.exp() * (wanted - logs(model))).sum(-1).mean()
    (0.25 * loss).backward()
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-6)
