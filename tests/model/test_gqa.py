"""Grouped-query attention: multi-head attention where every query head has its own keys; one function, cached or not."""

import math
from functools import partial

import pytest
import torch
from behind import in_chunks, told
from shapes import built, dense_twin, shape, varied
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nomoat.config import ConfigError
from nomoat.engine.blocks import BLOCK
from nomoat.engine.generate import sample
from nomoat.engine.runner import TorchRunner
from nomoat.model import counts
from nomoat.model.rope import turns
from nomoat.model.transformer import Transformer

SPEC = shape(
    vocab_size=61, n_layers=3, d_model=32, n_heads=6, n_kv_heads=2, d_head=10, d_value=7,
    d_ffn=40, n_dense_layers=1, n_routed=6, n_shared=1, n_active=2, d_expert=16, context=128, n_mtp=1,
)  # fmt: skip
WAYS = {
    "two heads": {},
    "multi-head": {"n_kv_heads": 6},
    "multi-query": {"n_kv_heads": 1},
    "plain": {"attention": "plain"},
    "biases": {"qkv_bias": True, "out_bias": True},
    "normed heads": {"qk_norm": "head", "attention": "plain"},
    "normed whole, norms after": {"qk_norm": "whole", "norm_place": "after"},
    "layers without rotation": {"unrotated": (0, 2), "qkv_bias": True},
}


def made(facts: dict) -> Transformer:
    model = built(SPEC, **facts).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            fan = math.sqrt(parameter.shape[-1]) if parameter.ndim > 1 else 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 1.2 / fan + (parameter.ndim == 1))
    return model


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, SPEC.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def close(a, b):
    torch.testing.assert_close(a, b, atol=3e-5, rtol=1e-4)


@pytest.fixture(params=WAYS, scope="module")
def model(request):
    return made(WAYS[request.param])


def turned(x, position, rotated=True):
    """Every pair of the head turned by its own angle, by hand."""
    if not rotated:
        return x
    out = torch.empty_like(x)
    for r in range(len(x) // 2):
        angle = position * SPEC.rope_theta ** (-2 * r / len(x))
        a, b = x[2 * r], x[2 * r + 1]
        out[2 * r] = a * math.cos(angle) - b * math.sin(angle)
        out[2 * r + 1] = a * math.sin(angle) + b * math.cos(angle)
    return out


def normed(x, norm):
    return x / (x.square().mean() + SPEC.norm_eps).sqrt() * norm.weight


def queries_keys_values(attention, h_TD):
    """By hand: biases and norms included, positions not."""
    a = attention.shape
    qkv = h_TD @ attention.w_in.weight.T + (0 if attention.w_in.bias is None else attention.w_in.bias)
    q, k, v = qkv.split((a.n_heads * 10, a.n_kv_heads * 10, a.n_kv_heads * 7), -1)
    if a.qk_norm:
        width = {"head": 10, "whole": None}[a.qk_norm]
        q, k = (
            torch.stack([
                torch.cat([normed(part, norm) for part in row.split(width or len(row))]) for row in x
            ])
            for x, norm in ((q, attention.norm_q), (k, attention.norm_k))
        )
    return q, k, v


@torch.no_grad()
def test_it_equals_attention_by_hand_head_by_head(model):
    """With as many key-value heads as heads this is multi-head attention; else query head h reads key-value head h // g."""
    s, a, T = model.spec, model.spec.attention, 6
    attention = model.blocks[0].attention
    h_BTD = torch.randn(1, T, s.d_model, generator=torch.Generator().manual_seed(2))
    q, k, v = queries_keys_values(attention, h_BTD[0])
    turn = partial(turned, rotated=0 not in s.unrotated)
    out = torch.zeros(T, s.d_model) + (0 if attention.w_o.bias is None else attention.w_o.bias)
    for h in range(a.n_heads):
        u = h // (a.n_heads // a.n_kv_heads)
        keys = [turn(k[t, 10 * u : 10 * u + 10], t) for t in range(T)]
        for t in range(T):
            query = turn(q[t, 10 * h : 10 * h + 10], t)
            score = torch.stack([query @ keys[i] / math.sqrt(10) for i in range(t + 1)])
            out[t] += attention.w_o.weight[:, 7 * h : 7 * h + 7] @ (score.softmax(0) @ v[: t + 1, 7 * u : 7 * u + 7])
    mask = None if model.kernels.attention == "fused" else torch.full((1, 1, T, T), float("-inf")).triu(1)
    close(attention(h_BTD, turns(s, torch.arange(T)[None]), mask)[0], out)


@torch.no_grad()
@pytest.mark.parametrize("n_prompt", [1, 5, 15])
def test_cached_decode_equals_the_full_forward(model, n_prompt):
    ids_BT = tokens(3, 16)
    close(told(model, ids_BT, n_prompt), model(ids_BT)[:, n_prompt - 1 :])


@torch.no_grad()
def test_one_step_for_many_rows_equals_the_full_forward(model):
    """One layer alone, behind a cache of the positions before."""
    s, attention, T = model.spec, model.blocks[1].attention, 9
    h_BTD = torch.randn(2, T, s.d_model, generator=torch.Generator().manual_seed(3))
    cis_BTr = turns(s, torch.arange(T)[None])
    whole = attention(h_BTD, cis_BTr, model.mask(None, h_BTD[..., 0]))
    close(in_chunks(attention, h_BTD, cis_BTr, (4, 1, 3, 1)), whole)


@torch.no_grad()
def test_the_sampler_says_what_full_forwards_say(model):
    prompts = [[5, 9, 11], [20, 21, 22, 23, 24, 25, 26], [7]]
    found = sample(model, prompts, max_new_tokens=20, seed=0, stop_ids=[], greedy=True)
    for prompt, [one] in zip(prompts, found):
        logits_TV = model(torch.tensor([[*prompt, *one.ids_T.tolist()]]))[0, len(prompt) - 1 : -1]
        close(logits_TV.gather(1, one.ids_T[:, None])[:, 0], logits_TV.amax(-1))


@torch.no_grad()
def test_a_packed_row_equals_separate_documents(model):
    lengths = [5, 1, 12, 7]
    documents = [tokens(1, n, seed=n) for n in lengths]
    doc_BT = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    same = doc_BT[:, :, None] == doc_BT[:, None, :]
    mask = (same & torch.ones_like(same).tril())[:, None]
    close(model(torch.cat(documents, 1), None, mask), torch.cat([model(document) for document in documents], 1))


@pytest.mark.parametrize("facts", [{}, *(WAYS[way] for way in WAYS if way[:4] in ("bias", "norm", "laye"))])
def test_both_ways_to_attend_give_the_same_gradients(facts):
    grads = []
    for way in ("fused", "plain"):
        model = made(facts | {"attention": way})
        model(tokens(2, 11)).square().mean().backward()
        grads.append([p.grad for p in model.blocks.parameters()])
    for fused, plain in zip(*grads):
        close(plain, fused)


def test_parameters_flops_and_cache_are_those_that_the_spec_says(model):
    s, B, T = model.spec, 2, 8
    depths = sum(p.numel() for p in model.depths.parameters()) + s.ffn.n_routed
    biases = sum(b.numel() for b in model.buffers())
    assert counts.params_mtp(s) == depths
    assert counts.params_total(s) == sum(p.numel() for p in model.parameters()) + biases - depths
    dense = Transformer(dense_twin(s)).initialise(0)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        dense(tokens(B, T))
    assert counter.get_total_flops() == B * T * counts.flops_forward(dense.spec, T, dense.kernels)
    cache, a = TorchRunner(model, 2).caches[0], s.attention
    assert sum(part.nbytes for part in cache) == 4 * 2 * BLOCK * a.n_kv_heads * (a.d_head + a.d_value)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"n_kv_heads": 4}, "expected n_kv_heads to divide n_heads = 6, found 4"),
        ({"n_kv_heads": 0}, "expected 1 or more"),
        ({"d_head": 7}, "multiple of 2"),
        ({"d_kv_latent": 8}, "unknown key `spec.d_kv_latent`"),
        ({"n_windowed": 2}, "expected a window beside n_windowed = 2"),
    ],
)
def test_what_cannot_be_is_an_error(changed, complaint):
    with pytest.raises(ConfigError, match=complaint):
        varied(SPEC, **changed)


def test_what_can_only_be_planned_is_not_computed():
    with pytest.raises(ConfigError, match="windowed attention"):
        built(SPEC, window=8, n_windowed=2)
