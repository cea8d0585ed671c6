"""Parameters and FLOPs: what the spec says is what the modules hold and what PyTorch's counter counts.

The counter's convention for attention is the whole T x S rectangle, forward and backward, so `attended = T`; causal
attention needs (T + 1) / 2.  It counts nothing for the fused CPU kernel, hence the plain one here.
"""

import random

import numpy as np
import pytest
import torch
from behind import batch
from shapes import built, dense_twin, shape, varied
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nomoat.engine.blocks import BLOCK, n_blocks
from nomoat.engine.runner import TorchRunner
from nomoat.model import counts
from nomoat.model.moe import Experts, Routing
from nomoat.model.spec import PRESETS, Kernels, Spec, Yarn
from nomoat.model.transformer import Transformer


def drawn(index: int) -> Spec:
    r = random.Random(f"spec/{index}")
    n_layers, groups = r.randint(1, 4), r.choice([1, 1, 2, 4])
    experts = groups * r.randint(2, 4)
    routed = r.random() < 0.8
    table = {
        "vocab_size": r.randint(20, 90), "n_layers": n_layers, "d_model": r.randint(9, 40), "n_heads": r.randint(1, 4),
        "d_nope": r.randint(2, 9), "d_rope": 2 * r.randint(1, 4), "d_value": r.randint(2, 14),
        "d_kv_latent": r.randint(3, 20), "d_q_latent": r.choice([None, r.randint(3, 20)]), "d_ffn": r.randint(5, 60),
        "n_mtp": r.randint(0, 2), "tied": r.random() < 0.3,
        "stretch": r.choice([None, Yarn(factor=2.0, original_context=16)]),
    }  # fmt: skip
    if routed:
        active_groups = r.randint(1, groups)
        table |= {
            "n_routed": experts, "n_groups": groups, "n_active_groups": active_groups, "n_shared": r.randint(0, 2),
            "n_active": r.randint(1, experts // groups * active_groups), "d_expert": r.randint(3, 30),
            "n_dense_layers": r.randint(0, n_layers - 1), "scoring": r.choice(["sigmoid", "softmax"]),
        }  # fmt: skip
    return shape(**table)


SPECS = [drawn(i) for i in range(20)]


def on_meta(spec: Spec) -> Transformer:
    with torch.device("meta"):
        return Transformer(spec)


def counted(module: torch.nn.Module, spec: Spec) -> int:
    biases = sum(b.numel() for b in module.buffers()) if getattr(spec.ffn, "scoring", None) == "sigmoid" else 0
    return sum(p.numel() for p in module.parameters()) + biases


@pytest.mark.parametrize("spec", SPECS, ids=range(20))
def test_parameter_counts_equal_the_modules(spec):
    model = on_meta(spec)
    assert counts.params_mtp(spec) == counted(model.depths, spec)
    assert counts.params_total(spec) == counted(model, spec) - counted(model.depths, spec)
    idle = 0
    for module in (m for block in model.blocks for m in block.modules() if isinstance(m, Experts)):
        one_expert = module.w_gate_up.weight[0].numel() + module.w_down.weight[0].numel()
        idle += (spec.ffn.n_routed - spec.ffn.n_active) * one_expert
    assert counts.params_active(spec) == counts.params_total(spec) - idle


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [("deepseek-v3", 671_026_419_200, 37.55e9), ("deepseek-v2-lite", 15_706_484_224, 2.66e9)],
)
def test_presets_have_the_published_counts(name, total, active):
    spec = PRESETS[name]
    model = on_meta(spec)
    assert counts.params_total(spec) == total == counted(model, spec) - counted(model.depths, spec)
    assert round(counts.params_active(spec) / 1e7) == round(active / 1e7)


@pytest.mark.parametrize("name", PRESETS)
def test_the_dense_twin_has_equal_active_parameters(name):
    twin = dense_twin(PRESETS[name])
    assert twin.n_moe_layers == 0
    assert counts.params_active(twin) == counts.params_total(twin) == counted(on_meta(varied(twin, n_mtp=0)), twin)
    assert counts.params_active(twin) == pytest.approx(counts.params_active(PRESETS[name]), rel=0.02)
    assert counts.flops_train(twin, 2048) == pytest.approx(counts.flops_train(PRESETS[name], 2048), rel=0.02)


class EvenRouting:
    """The router's product is executed, and then each expert gets equally many tokens: no padding of groups."""

    def __init__(self, monkeypatch):
        route = Experts.route

        def even(experts, h_MD):
            s, routing = experts.shape, route(experts, h_MD)
            expert_MK = (torch.arange(len(h_MD) * s.n_active) % s.n_routed).view(-1, s.n_active)
            return Routing(routing.score_ME, expert_MK, routing.score_ME.gather(1, expert_MK))

        monkeypatch.setattr(Experts, "route", even)


SMALL = shape(
    vocab_size=96, n_layers=3, d_model=48, n_heads=3, d_nope=12, d_rope=8, d_value=16, d_kv_latent=20, d_q_latent=24,
    d_ffn=64, n_dense_layers=1, n_routed=8, n_shared=2, n_active=4, d_expert=16,
)  # fmt: skip
COUNTED = {
    "sorted": {},
    "wide": {"experts": "wide"},
    "plain product": {"attention": "plain"},
    "no query latent": {"d_q_latent": None, "n_shared": 0},
    "dense, tied": {"n_routed": 0, "n_dense_layers": 3, "tied": True},
    "two depths": {"n_mtp": 2, "experts": "wide"},
}
B, T = 2, 64  # B T K / E is whole ROW_TILEs


@pytest.mark.parametrize("name", COUNTED)
def test_flops_equal_those_that_pytorch_counts(name, monkeypatch):
    EvenRouting(monkeypatch)
    model = built(SMALL, **COUNTED[name]).initialise(0)
    spec, kernels = model.spec, model.kernels
    ids_BT = torch.arange(B * T).view(B, T) % spec.vocab_size
    with FlopCounterMode(display=False) as forward, sdpa_kernel(SDPBackend.MATH):
        h_BTD, _ = model.hidden(ids_BT)
        outputs = [model.logits(h_BTD)]
        main = forward.get_total_flops()
        for depth, state in zip(model.depths, model.predict_further(h_BTD, ids_BT)):
            outputs.append(depth.final(state) @ model.head.weight.T)
    with FlopCounterMode(display=False) as backward, sdpa_kernel(SDPBackend.MATH):
        sum(out.square().sum() for out in outputs).backward()
    assert main == B * T * counts.flops_forward(spec, T, kernels)
    assert forward.get_total_flops() - main == B * T * counts.flops_mtp(spec, T, kernels)
    trained = forward.get_total_flops() + backward.get_total_flops()
    assert trained == pytest.approx(B * T * counts.flops_train(spec, T, kernels), rel=0.01)


@pytest.mark.parametrize("name", ["sorted", "wide"])
def test_model_flops_count_active_experts_only(name):
    spec, kernels, f = SMALL, Kernels(experts=name), SMALL.ffn
    idle = 2 * 3 * spec.d_model * f.d_expert * (f.n_routed - f.n_active) * spec.n_moe_layers
    more = idle if name == "wide" else 0
    assert counts.flops_forward(spec, 10, kernels) - counts.flops_forward(spec, 10) == more
    assert counts.flops_forward(spec, 10) - counts.flops_forward(spec, 10, head=False) == 2 * spec.d_model * spec.vocab_size


def test_v3_needs_the_flops_that_deepseek_reports():
    """Per token of a 4K sequence with causal attention: 250 GFLOPs, 260.6 with the extra depth."""
    spec, causal = PRESETS["deepseek-v3"], (4096 + 1) / 2
    assert 3 * counts.flops_forward(spec, causal) == pytest.approx(250.4e9, rel=0.01)
    assert counts.flops_train(spec, causal) == pytest.approx(260.6e9, rel=0.01)


def test_decoding_reads_the_latent_once_for_all_heads():
    """The absorbed form: each head's query meets C + R numbers a cached position, and W^UK, W^UV once a token."""
    spec = varied(SMALL, n_routed=0, n_dense_layers=3, n_layers=1)
    model, S = Transformer(spec).initialise(0), 33
    runner, tables = TorchRunner(model, n_blocks(S)), np.arange(n_blocks(S), dtype=np.int32)[None]
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        runner.run(batch(torch.zeros(1, S - 1), 0, tables))
        with FlopCounterMode(display=False) as counter:
            runner.run(batch(torch.zeros(1, 1), S - 1, tables))
    a = spec.attention
    scores = 2 * a.n_heads * n_blocks(S) * BLOCK * (a.d_kv_latent + a.d_rope + a.d_kv_latent)
    assert counter.get_total_flops() == counts.flops_forward(spec, 0) + scores
