"""The chunked losses equal the plain ones, in value and in gradient."""

import pytest
import torch
import torch.nn.functional as F

from nomoat.model import kernels
from nomoat.model import loss as losses
from nomoat.model.loss import cross_entropy, divergence, log_prob_objective


@pytest.fixture(params=["as many rows as there are", "rows in tiles"])
def small_chunks(request, monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", 8)
    monkeypatch.setattr(losses, "ROW_TILE", 4)
    if "tiles" in request.param:
        monkeypatch.setattr(kernels, "rows_of", lambda n, like: -(-n // 4) * 4)


def tensors(M=23, D=6, V=11, seed=0):
    g = torch.Generator().manual_seed(seed)
    h, head = torch.randn(M, D, generator=g), torch.randn(V, D, generator=g)
    targets = torch.randint(0, V, (M,), generator=g)
    return h.requires_grad_(), head.requires_grad_(), targets


def grads(value, *inputs):
    return torch.autograd.grad(value, inputs)


def test_cross_entropy_equals_torch_and_skips_what_is_not_trained(small_chunks):
    h, head, targets = tensors()
    targets[::3] = losses.IGNORED
    ours, logp = cross_entropy(h, head, targets)
    theirs = F.cross_entropy(h @ head.T, targets, ignore_index=losses.IGNORED)
    torch.testing.assert_close(ours, theirs)
    assert len(logp) == int((targets != losses.IGNORED).sum())
    torch.testing.assert_close(grads(ours, h, head), grads(theirs, h, head))


def test_objective_is_the_sum_of_coefficient_times_log_probability(small_chunks):
    h, head, targets = tensors(seed=1)
    weight = torch.linspace(-1, 2, len(targets))
    ours, logp, entropy = log_prob_objective(h, head, targets, lambda _, rows: weight[rows], entropy=True)
    every = (h @ head.T).log_softmax(-1)
    picked = every.gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(logp, picked.detach())
    torch.testing.assert_close(entropy, -(every.exp() * every).sum(-1).detach())
    torch.testing.assert_close(grads(ours, h, head), grads((weight * picked).sum(), h, head))


@pytest.mark.parametrize("reverse", [False, True])
def test_divergence_equals_its_definition(small_chunks, reverse):
    h, head, _ = tensors(seed=2)
    h_t, head_t, _ = (t.detach() for t in tensors(seed=3))
    ours = divergence(h, head, h_t, head_t, reverse=reverse)
    s, t = (h @ head.T).log_softmax(-1), (h_t @ head_t.T).log_softmax(-1)
    theirs = ((s.exp() * (s - t)) if reverse else (t.exp() * (t - s))).sum(-1).mean()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(grads(ours, h, head), grads(theirs, h, head))


def test_divergence_from_oneself_is_zero_and_has_no_gradient():
    h, head, _ = tensors(seed=4)
    for reverse in (False, True):
        value = divergence(h, head, h.detach(), head.detach(), reverse=reverse)
        assert abs(float(value.detach())) < 1e-6
        assert max(float(g.abs().max()) for g in grads(value, h, head)) < 1e-6


def test_a_head_that_stays_gets_no_gradient_and_the_rest_is_the_same(small_chunks):
    h, head, targets = tensors()
    learns, _ = cross_entropy(h, head, targets)
    stays, _ = cross_entropy(h, head.detach(), targets)
    assert torch.equal(*(grads(loss, h)[0] for loss in (learns, stays)))


@pytest.mark.parametrize("V", [256, 49_152, 151_936, 2**24])
def test_of_a_large_vocabulary_fewer_rows_of_logits_exist(V):
    rows = losses.chunk_rows(V)
    assert 1 <= rows <= losses.CHUNK
    assert rows * V <= losses.CHUNK_LOGITS
