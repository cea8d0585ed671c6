"""Latent attention: one function, whatever form, cache, batch or packing computes it."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nomoat.model.cache import LatentCache
from nomoat.model.mla import PlainAttention, keys_read, mask_for
from nomoat.model.rope import frequencies, rotate, turns
from nomoat.model.spec import ModelSpec, Yarn
from nomoat.model.transformer import Transformer

SPEC = ModelSpec(
    vocab_size=61, n_layers=3, d_model=32, n_heads=3, d_nope=10, d_rope=6, d_value=9, d_kv_latent=14, d_ffn=40,
    n_dense_layers=1, n_routed=6, n_shared=1, n_active=2, d_expert=16, context=128,
)  # fmt: skip
SPECS = {
    "plain": SPEC,
    "query latent": SPEC.model_copy(update={"d_q_latent": 12, "experts": "wide"}),
    "YaRN": SPEC.model_copy(update={"yarn": Yarn(factor=4.0, original_context=8), "d_value": 16}),
    "plain product": SPEC.model_copy(update={"attention": "plain"}),
}


def made(spec: ModelSpec) -> Transformer:
    model = Transformer(spec).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            fan = math.sqrt(tensor.shape[-1]) if tensor.ndim > 1 else 1.0
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 1.2 / fan + (tensor.ndim == 1))
    return model


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, SPEC.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def close(a, b):
    torch.testing.assert_close(a, b, atol=3e-5, rtol=1e-4)


@pytest.fixture(params=SPECS, scope="module")
def model(request):
    return made(SPECS[request.param])


@torch.no_grad()
def test_absorbed_equals_naive(model):
    ids_BT = tokens(2, 17)
    cache = LatentCache(model.spec, 2, 17)
    parts = [model(part, cache=cache) for part in (ids_BT[:, :1], ids_BT[:, 1:])]  # the second is absorbed
    close(torch.cat(parts, 1), model(ids_BT))


def test_the_absorbed_form_never_makes_keys_and_values_of_the_past(model, monkeypatch):
    cache = LatentCache(model.spec, 2, 17)
    with torch.no_grad():
        model(tokens(2, 9), cache=cache)
        monkeypatch.setattr(type(model.blocks[0].attention), "_naive", None)
        model(tokens(2, 3), cache=cache)


@torch.no_grad()
@pytest.mark.parametrize("steps", [(1,) * 16, (5, 1, 1, 7, 2), (15, 1)], ids=str)
def test_cached_decode_equals_the_full_forward(model, steps):
    ids_BT = tokens(3, 16)
    cache, start, parts = LatentCache(model.spec, 3, 20), 0, []
    for n in steps:
        parts.append(model(ids_BT[:, start : start + n], cache=cache))
        start += n
    assert cache.length == 16
    close(torch.cat(parts, 1), model(ids_BT))


@torch.no_grad()
def test_right_aligned_prompts_of_unequal_lengths_decode_as_if_alone(model):
    lengths, n_new = [3, 9, 6], 4
    S, widest = max(lengths) + n_new, max(lengths)
    rows = [tokens(1, n + n_new, seed=n) for n in lengths]
    ids_BT = torch.zeros(len(rows), S, dtype=torch.long)
    for b, row in enumerate(rows):
        ids_BT[b, S - row.shape[1] :] = row
    pad_B = torch.tensor([widest - n for n in lengths])
    mask_BS = torch.arange(S)[None] >= pad_B[:, None]
    pos_BT = (torch.arange(S)[None] - pad_B[:, None]).clamp(min=0)
    causal_TS = torch.ones(S, S, dtype=torch.bool).tril()
    mask = mask_BS[:, None, None] & causal_TS
    cache = LatentCache(model.spec, len(rows), S)
    parts = [model(ids_BT[:, :widest], pos_BT[:, :widest], mask[:, :, :widest, :widest], cache)]
    for t in range(widest, S):
        parts.append(model(ids_BT[:, t : t + 1], pos_BT[:, t : t + 1], mask[:, :, t : t + 1, : t + 1], cache))
    for b, row in enumerate(rows):
        close(torch.cat(parts, 1)[b, pad_B[b] :], model(row)[0])


@torch.no_grad()
@pytest.mark.parametrize("restart", [True, False], ids=["positions restart", "positions run on"])
def test_a_packed_row_equals_separate_documents(model, restart):
    lengths = [5, 1, 12, 7]
    documents = [tokens(1, n, seed=n) for n in lengths]
    doc_BT = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    same = doc_BT[:, :, None] == doc_BT[:, None, :]
    mask = (same & torch.ones_like(same).tril())[:, None]
    pos_BT = torch.cat([torch.arange(n) for n in lengths])[None] if restart else None
    packed = model(torch.cat(documents, 1), pos_BT, mask)
    close(packed, torch.cat([model(document) for document in documents], 1))


@torch.no_grad()
def test_the_future_cannot_be_seen(model):
    ids_BT = tokens(1, 12)
    other = ids_BT.clone()
    other[:, 8:] = (other[:, 8:] + 1) % SPEC.vocab_size
    close(model(other)[:, :8], model(ids_BT)[:, :8])


def test_both_ways_to_attend_give_the_same_gradients():
    doc_BT = torch.tensor([[0] * 4 + [1] * 7])
    same = doc_BT[:, :, None] == doc_BT[:, None, :]
    mask, grads = (same & torch.ones_like(same).tril())[:, None], []
    for attention in ("fused", "plain"):
        model = made(SPEC.model_copy(update={"attention": attention}))
        model(tokens(1, 11), mask=mask).square().mean().backward()
        grads.append([p.grad for p in model.parameters()])
    for fused, plain in zip(*grads):
        close(plain, fused)


def test_the_cache_holds_the_latent_and_the_rotary_key_alone(model):
    s = model.spec
    assert sum(layer.nbytes for layer in LatentCache(s, 2, 10).latent) == 4 * s.n_layers * 2 * 10 * (s.d_kv_latent + s.d_rope)


def test_rotation_keeps_lengths_and_depends_on_distance_alone():
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, 1, 1, SPEC.d_rope, generator=generator)
    at = lambda x, position: rotate(x, turns(SPEC, torch.tensor([[position]])))
    torch.testing.assert_close(at(q, 30).norm(), q.norm())
    torch.testing.assert_close((at(q, 30) * at(k, 21)).sum(), (at(q, 9) * at(k, 0)).sum())


def test_yarn_keeps_fast_pairs_and_stretches_slow_ones_by_the_factor():
    yarn = Yarn(factor=8.0, original_context=4096)
    spec = SPEC.model_copy(update={"d_rope": 64})
    plain, stretched = frequencies(spec), frequencies(spec.model_copy(update={"yarn": yarn}))
    turns_in_context = plain * 4096 / (2 * math.pi)
    fast, slow = turns_in_context > 40, turns_in_context < 0.9
    assert fast.sum() >= 5
    assert slow.sum() >= 5
    torch.testing.assert_close(stretched[fast], plain[fast])
    torch.testing.assert_close(stretched[slow], plain[slow] / 8)
    assert (stretched.diff() < 0).all()
    assert yarn.magnitude(1.0) == 0.1 * math.log(8.0) + 1.0


def test_yarn_of_factor_one_changes_nothing():
    spec = SPEC.model_copy(update={"yarn": Yarn(factor=1.0, original_context=16)})
    pos_BT = torch.arange(200)[None]
    torch.testing.assert_close(turns(spec, pos_BT), turns(SPEC, pos_BT))
    assert spec.softmax_scale == SPEC.softmax_scale


@torch.no_grad()
@pytest.mark.parametrize("d_q_latent", [None, 12])
def test_attention_equals_a_loop_over_the_equations(d_q_latent):
    """(1) to (11), head by head and position by position."""
    s = SPEC.model_copy(update={"d_q_latent": d_q_latent})
    attention = made(s).blocks[0].attention
    h_BTD = torch.randn(1, 7, s.d_model, generator=torch.Generator().manual_seed(2))
    cis = turns(s, torch.arange(7)[None])
    projected = h_BTD[0] @ attention.w_in.T
    q, c, k_rope = projected.split((attention.d_query_in, s.d_kv_latent, s.d_rope), -1)
    rms = lambda x, weight: x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight
    c = rms(c, attention.norm_kv)  # (1)
    if d_q_latent:
        q = rms(q, attention.norm_q) @ attention.w_uq.T  # (6) (7)
    k_rope = rotate(k_rope[None], cis)[0]  # (3)
    out = torch.zeros(7, s.d_model)
    for h in range(s.n_heads):
        w_ukv = attention.w_ukv.view(s.n_heads, s.d_nope + s.d_value, -1)[h]
        q_h = q.view(7, s.n_heads, -1)[:, h]
        q_rope = rotate(q_h[None, :, s.d_nope :], cis)[0]  # (8)
        k_nope, v = (c @ w_ukv.T).split((s.d_nope, s.d_value), -1)  # (2) (5)
        for t in range(7):
            score = k_nope[: t + 1] @ q_h[t, : s.d_nope] + k_rope[: t + 1] @ q_rope[t]  # (4) (9)
            o = (score / math.sqrt(s.d_nope + s.d_rope)).softmax(0) @ v[: t + 1]  # (10)
            out[t] += attention.w_o[:, h * s.d_value : (h + 1) * s.d_value] @ o  # (11)
    close(attention(h_BTD, cis, None)[0], out)


@pytest.mark.parametrize("T", [1, 5, 128, 131, 200])
@pytest.mark.parametrize("per_row", [False, True], ids=["one mask", "a mask for each row"])
def test_plain_attention_is_softmax_attention_with_its_gradient(T, per_row):
    generator = torch.Generator().manual_seed(T)
    q, k, v = (torch.randn(2, 3, T, n, generator=generator, requires_grad=True) for n in (10, 10, 7))
    doc_BT = (torch.rand(2, T, generator=generator) < 0.05).cumsum(1) if per_row else torch.zeros(1, T)
    mask = (doc_BT[:, None, :, None] == doc_BT[:, None, None, :]) & torch.ones(T, T, dtype=torch.bool).tril()
    bias = mask_for(SPECS["plain product"], mask, T, torch.float32, None)
    weight = torch.randn(2, 3, T, 7, generator=generator)
    want = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=0.3)
    got = PlainAttention.apply(q, k, v, bias, 0.3)
    close(got, want)
    gradients = [torch.autograd.grad(out, (q, k, v), weight) for out in (got, want)]
    for a, b in zip(*gradients):
        close(a, b)


@pytest.mark.parametrize("T", [7, 127, 128, 131, 256])
def test_the_ledger_counts_the_keys_that_plain_attention_multiplies(T):
    q, k, v = (torch.zeros(1, 2, T, n, requires_grad=True) for n in (10, 10, 7))
    with FlopCounterMode(display=False) as counter:
        PlainAttention.apply(q, k, v, torch.zeros(1, 1, T, T), 1.0).sum().backward()
    products = 3 * 10 + 3 * 7  # scores and their two gradients, outputs and their two
    assert counter.get_total_flops() == pytest.approx(2 * 2 * T * keys_read(SPECS["plain product"], T) * products)
