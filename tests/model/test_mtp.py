"""Multi-token prediction: a chain of depths beside the main model, which does not know of them."""

import math

import pytest
import torch
import torch.nn.functional as F
from shapes import built, shape

from nomoat.model.transformer import Transformer

SPEC = shape(
    vocab_size=53, n_layers=2, d_model=24, n_heads=2, d_nope=8, d_rope=4, d_value=8, d_kv_latent=10, d_ffn=32,
    n_dense_layers=1, n_routed=4, n_active=2, d_expert=12, n_mtp=2,
)  # fmt: skip
IDS_BT = torch.randint(0, 53, (2, 14), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    model = Transformer(SPEC).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            fan = math.sqrt(tensor.shape[-1]) if tensor.ndim > 1 else 1.0
            tensor.copy_(torch.randn(tensor.shape, generator=generator) / fan + (tensor.ndim == 1))
    return model


def test_without_the_depths_the_main_logits_are_unchanged(model):
    bare = built(SPEC, n_mtp=0).eval()
    kept = {name: t for name, t in model.state_dict().items() if not name.startswith("depths.")}
    bare.load_state_dict(kept)
    assert torch.equal(bare(IDS_BT), model(IDS_BT))


@torch.no_grad()
def test_the_chain_equals_the_equations_on_the_shortened_row(model):
    """(21) to (24): depth k runs over the first T - k positions, with the token k places further."""
    h_BTD, _ = model.hidden(IDS_BT)
    got = model.predict_further(h_BTD, IDS_BT)
    T, D = IDS_BT.shape[1], SPEC.d_model
    previous = h_BTD
    for k, depth in enumerate(model.depths, start=1):
        n = T - k
        normed = F.rms_norm(previous[:, :n], (D,), depth.norm_hidden.weight, SPEC.norm_eps)
        embed = F.rms_norm(model.embed.weight[IDS_BT[:, k:]], (D,), depth.norm_embed.weight, SPEC.norm_eps)
        joined = embed @ depth.w_join.weight[:, :D].T + normed @ depth.w_join.weight[:, D:].T  # (21)
        previous, _ = depth.block(joined, model.turns(IDS_BT[:, :n]))  # (22)
        torch.testing.assert_close(got[k - 1][:, :n], previous, atol=1e-5, rtol=1e-4)
        logits = F.linear(depth.final(previous), model.head.weight)  # (23)
        want = F.rms_norm(previous, (D,), depth.norm.weight, SPEC.norm_eps) @ model.head.weight.T
        torch.testing.assert_close(logits, want)


@torch.no_grad()
def test_a_depth_sees_k_tokens_further_and_not_one_more(model):
    h_BTD, _ = model.hidden(IDS_BT)
    before = model.predict_further(h_BTD, IDS_BT)
    changed = IDS_BT.clone()
    changed[:, 9] = (changed[:, 9] + 1) % SPEC.vocab_size
    after = model.predict_further(model.hidden(changed)[0], changed)
    for k in (1, 2):
        moved = (after[k - 1] - before[k - 1]).abs().amax((0, 2)) > 1e-6
        assert not moved[: 9 - k].any()
        assert moved[9 - k]


@torch.no_grad()
def test_the_loss_of_the_depths_is_the_mean_over_depths_of_tokens_further_on(model):
    """(24) (25), by hand: two documents in a row, and no prediction from one into the other."""
    packing = pytest.importorskip("nomoat.data.packing")
    from nomoat.train.objective import document_mask, further_loss, totals_of

    doc_BT = (torch.arange(14) >= 8).int().expand(2, 14)
    targets_BT = torch.roll(IDS_BT, -1, 1)
    targets_BT[:, [7, 13]] = -100
    mask = document_mask(doc_BT)
    h_BTD, _ = model.hidden(IDS_BT, mask=mask)
    batch = packing.Batch(IDS_BT, targets_BT, doc_BT)
    got = further_loss(model, h_BTD, batch, mask, totals_of(model, [batch]))
    losses = []
    for k, (depth, deep_BTD) in enumerate(zip(model.depths, model.predict_further(h_BTD, IDS_BT, mask)), start=1):
        logp = F.linear(depth.final(deep_BTD), model.head.weight).log_softmax(-1)
        terms = [-logp[b, i, IDS_BT[b, i + k + 1]] for b in range(2) for first, last in ((0, 7), (8, 13))
                 for i in range(first, last - k)]  # fmt: skip
        losses.append(sum(terms) / len(terms))
    torch.testing.assert_close(got, sum(losses) / len(losses))


def test_depths_train_the_trunk_and_share_embedding_and_head(model):
    names = {n.rpartition(".")[2] for n, _ in model.depths.named_parameters()}
    assert not {"embed.weight", "head.weight"} & names
    h_BTD, _ = model.hidden(IDS_BT)
    states = model.predict_further(h_BTD, IDS_BT)
    loss = sum(
        F.cross_entropy(F.linear(depth.final(h[:, : -k - 1]), model.head.weight).flatten(0, 1), IDS_BT[:, k + 1 :].flatten())
        for k, (depth, h) in enumerate(zip(model.depths, states), start=1)
    )  # (24) (25)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and parameter.grad.abs().sum() > 0) or name == "norm.weight", name
    model.zero_grad()
