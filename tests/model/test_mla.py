"""Latent attention: one function, whatever form, cache, batch or packing computes it."""

import math

import pytest
import torch
from behind import in_chunks, told
from shapes import built, shape, varied
from torch.utils.flop_counter import FlopCounterMode

from nomoat.engine.blocks import BLOCK
from nomoat.engine.runner import TorchRunner
from nomoat.model.kernels import PlainAttention, keys_read, mask_for
from nomoat.model.mla import LatentAttention
from nomoat.model.rope import frequencies, rotate, turns
from nomoat.model.spec import Interpolation, Kernels, Llama3, Yarn
from nomoat.model.transformer import Transformer

SPEC = shape(
    vocab_size=61, n_layers=3, d_model=32, n_heads=3, d_nope=10, d_rope=6, d_value=9, d_kv_latent=14, d_ffn=40,
    n_dense_layers=1, n_routed=6, n_shared=1, n_active=2, d_expert=16, context=128,
)  # fmt: skip
WAYS = {
    "plain": {},
    "query latent": {"d_q_latent": 12, "experts": "wide"},
    "YaRN": {"stretch": Yarn(factor=4.0, original_context=8), "d_value": 16},
    "plain product": {"attention": "plain"},
}


def made(**way: object) -> Transformer:
    model = built(SPEC, **way).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            fan = math.sqrt(tensor.shape[-1]) if tensor.ndim > 1 else 1.0
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 1.2 / fan + (tensor.ndim == 1))
    return model


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, SPEC.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def decoded(model: Transformer, ids_BT: torch.Tensor, n_prompt: int) -> torch.Tensor:
    """Logits from the last prompt position on: the prompt at once, the rest step by step behind a cache."""
    return told(model, ids_BT, n_prompt)


@pytest.fixture(params=WAYS, scope="module")
def model(request):
    return made(**WAYS[request.param])


@torch.no_grad()
def test_absorbed_equals_naive(model):
    """One layer alone: a step behind a cache of the positions before is the last position of whole rows."""
    s, attention, T = model.spec, model.blocks[1].attention, 9
    h_BTD = torch.randn(2, T, s.d_model, generator=torch.Generator().manual_seed(3))
    cis_BTr = turns(s, torch.arange(T)[None])
    whole = attention(h_BTD, cis_BTr, model.mask(None, h_BTD[..., 0]))
    close(in_chunks(attention, h_BTD, cis_BTr, (4, 1, 3, 1)), whole)


def test_the_absorbed_form_never_makes_keys_and_values_of_the_past(model, monkeypatch):
    monkeypatch.setattr(LatentAttention, "forward", None)
    for block in model.blocks:
        monkeypatch.setattr(block.attention.w_ukv, "forward", None)
    told(model, tokens(2, 9), 3)


@torch.no_grad()
@pytest.mark.parametrize("n_prompt", [1, 5, 15])
def test_cached_decode_equals_the_full_forward(model, n_prompt):
    ids_BT = tokens(3, 16)
    close(decoded(model, ids_BT, n_prompt), model(ids_BT)[:, n_prompt - 1 :])


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
        model = made(attention=attention)
        model(tokens(1, 11), mask=mask).square().mean().backward()
        grads.append([p.grad for p in model.parameters()])
    for fused, plain in zip(*grads):
        close(plain, fused)


def test_the_cache_holds_the_latent_and_the_rotary_key_alone(model):
    a = model.spec.attention
    latents, keys = TorchRunner(model, 2).caches[0]
    assert latents.shape == (2 * BLOCK, a.d_kv_latent)
    assert keys.shape == (2 * BLOCK, a.d_rope)


def test_rotation_keeps_lengths_and_depends_on_distance_alone():
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, 1, 1, SPEC.attention.d_rope, generator=generator)
    at = lambda x, position: rotate(x, turns(SPEC, torch.tensor([[position]])))
    torch.testing.assert_close(at(q, 30).norm(), q.norm())
    torch.testing.assert_close((at(q, 30) * at(k, 21)).sum(), (at(q, 9) * at(k, 0)).sum())


def test_yarn_keeps_fast_pairs_and_stretches_slow_ones_by_the_factor():
    yarn = Yarn(factor=8.0, original_context=4096)
    spec = varied(SPEC, d_rope=64)
    plain, stretched = frequencies(spec), frequencies(varied(spec, stretch=yarn))
    turns_in_context = plain * 4096 / (2 * math.pi)
    fast, slow = turns_in_context > 40, turns_in_context < 0.9
    assert fast.sum() >= 5
    assert slow.sum() >= 5
    torch.testing.assert_close(stretched[fast], plain[fast])
    torch.testing.assert_close(stretched[slow], plain[slow] / 8)
    assert (stretched.diff() < 0).all()
    assert yarn.magnitude(1.0) == 0.1 * math.log(8.0) + 1.0


def test_linear_stretch_divides_every_angle():
    stretched = frequencies(varied(SPEC, stretch=Interpolation(factor=4.0)))
    torch.testing.assert_close(stretched, frequencies(SPEC) / 4)


def test_llama3_keeps_what_turns_often_divides_what_turns_seldom_and_blends_between():
    stretch = Llama3(factor=8.0, original_context=8192, low=1.0, high=4.0)
    spec = varied(SPEC, d_rope=128, rope_theta=500000.0, stretch=stretch)
    for plain, found in zip(*(frequencies(s).tolist() for s in (varied(spec, stretch=None), spec))):
        wavelength = 2 * math.pi / plain
        if wavelength < 8192 / 4:
            expected = plain
        elif wavelength > 8192:
            expected = plain / 8
        else:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            expected = (1 - smooth) * plain / 8 + smooth * plain
        assert found == pytest.approx(expected, rel=1e-5)


def test_yarn_of_factor_one_changes_nothing():
    spec = varied(SPEC, stretch=Yarn(factor=1.0, original_context=16))
    pos_BT = torch.arange(200)[None]
    torch.testing.assert_close(turns(spec, pos_BT), turns(SPEC, pos_BT))
    assert spec.softmax_scale == SPEC.softmax_scale


@torch.no_grad()
@pytest.mark.parametrize("d_q_latent", [None, 12])
def test_attention_equals_a_loop_over_the_equations(d_q_latent):
    """(1) to (11), head by head and position by position."""
    model = made(d_q_latent=d_q_latent)
    s, attention, a = model.spec, model.blocks[0].attention, model.spec.attention
    h_BTD = torch.randn(1, 7, s.d_model, generator=torch.Generator().manual_seed(2))
    cis = turns(s, torch.arange(7)[None])
    projected = h_BTD[0] @ attention.w_in.weight.T
    q, c, k_rope = projected.split((attention.widths[0], a.d_kv_latent, a.d_rope), -1)
    rms = lambda x, weight: x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight
    c = rms(c, attention.norm_kv.weight)  # (1)
    if d_q_latent:
        q = rms(q, attention.norm_q.weight) @ attention.w_uq.weight.T  # (6) (7)
    k_rope = rotate(k_rope[None], cis)[0]  # (3)
    out = torch.zeros(7, s.d_model)
    for h in range(a.n_heads):
        w_ukv = attention.w_ukv.weight.view(a.n_heads, a.d_nope + a.d_value, -1)[h]
        q_h = q.view(7, a.n_heads, -1)[:, h]
        q_rope = rotate(q_h[None, :, a.d_nope :], cis)[0]  # (8)
        k_nope, v = (c @ w_ukv.T).split((a.d_nope, a.d_value), -1)  # (2) (5)
        for t in range(7):
            score = k_nope[: t + 1] @ q_h[t, : a.d_nope] + k_rope[: t + 1] @ q_rope[t]  # (4) (9)
            o = (score / math.sqrt(a.d_nope + a.d_rope)).softmax(0) @ v[: t + 1]  # (10)
            out[t] += attention.w_o.weight[:, h * a.d_value : (h + 1) * a.d_value] @ o  # (11)
    close(attention(h_BTD, cis, None)[0], out)


@pytest.mark.parametrize("T", [1, 5, 128, 131, 200])
@pytest.mark.parametrize("n_kv_heads", [6, 2, 1])
@pytest.mark.parametrize("per_row", [False, True], ids=["one mask", "a mask for each row"])
def test_plain_attention_is_softmax_attention_with_its_gradient(T, n_kv_heads, per_row):
    generator = torch.Generator().manual_seed(T)
    q, k, v = (
        torch.randn(2, n_heads, T, n, generator=generator, requires_grad=True)
        for n_heads, n in ((6, 10), (n_kv_heads, 10), (n_kv_heads, 7))
    )
    doc_BT = (torch.rand(2, T, generator=generator) < 0.05).cumsum(1) if per_row else torch.zeros(1, T)
    mask = (doc_BT[:, None, :, None] == doc_BT[:, None, None, :]) & torch.ones(T, T, dtype=torch.bool).tril()
    bias = mask_for(Kernels(attention="plain"), mask, T, torch.zeros(1))
    weight = torch.randn(2, 6, T, 7, generator=generator)
    want = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=0.3, enable_gqa=True)
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
    assert counter.get_total_flops() == pytest.approx(2 * 2 * T * keys_read(Kernels(attention="plain"), T) * products)
