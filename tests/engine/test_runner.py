"""Behind a cache both runners say what the model's forward says; the compiled one in the same bits."""

import pytest
import torch
from behind import batch, random_model, told
from shapes import shape, varied

from nomoat.engine.blocks import BLOCK, n_blocks
from nomoat.engine.engine import Engine
from nomoat.engine.native import runner as native
from nomoat.engine.native.runner import NativeRunner
from nomoat.engine.request import Request
from nomoat.engine.runner import TorchRunner
from nomoat.model.linear import ExpertLinear, Linear
from nomoat.model.mla import LatentAttention
from nomoat.model.spec import Interpolation, Llama3, Yarn
from nomoat.model.transformer import Transformer

LATENT = shape(
    vocab_size=50, n_layers=2, d_model=32, n_heads=2, d_nope=8, d_rope=4, d_value=8, d_kv_latent=16, d_ffn=40,
    context=96,
)  # fmt: skip
GROUPED = shape(
    vocab_size=50, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, d_head=8, d_ffn=40, context=96
)  # fmt: skip
ROUTED = varied(LATENT, n_routed=8, n_active=3, d_expert=12)
SPECS = {
    "latent": LATENT,
    "query latent": varied(LATENT, d_q_latent=20, tied=True),
    "odd": varied(
        LATENT, d_model=37, n_heads=3, d_nope=7, d_rope=6, d_value=5, d_kv_latent=13, d_ffn=29, vocab_size=101
    ),
    "odd routed": varied(
        ROUTED, d_model=35, d_q_latent=9, n_routed=7, n_active=2, d_expert=11, n_shared=3, n_mtp=2
    ),
    "stretched": varied(LATENT, stretch=Yarn(factor=4.0, original_context=20, mscale=0.7)),
    "sigmoid groups": varied(ROUTED, n_groups=4, n_active_groups=2, n_mtp=1, routed_scale=2.5),
    "softmax groups": varied(
        ROUTED, scoring="softmax", group_score="max", n_groups=4, n_active_groups=2, normalise_gates=False,
        n_shared=0
    ),
    "grouped": varied(GROUPED, qkv_bias=True, out_bias=True, stretch=Llama3(factor=8.0, original_context=40)),
    "multi-query": varied(
        GROUPED, n_kv_heads=1, d_value=5, d_head=14, d_model=41, qkv_bias=True, tied=True, n_mtp=1
    ),
    "multi-head": varied(
        GROUPED, n_kv_heads=4, qk_norm="head", unrotated=(1,), stretch=Interpolation(factor=2.0)
    ),
    "norms after": varied(GROUPED, qk_norm="whole", norm_place="after", norm_eps=1e-3),
    "many heads": varied(GROUPED, n_heads=28, n_kv_heads=2, d_head=6),
    "grouped routed": varied(GROUPED, n_routed=6, n_active=2, d_expert=9, n_shared=0, n_dense_layers=0),
}  # fmt: skip
KINDS = {"torch": TorchRunner, "compiled": NativeRunner}
B, T, N_PROMPT = 2, 44, 29


def some_ids(spec) -> torch.Tensor:
    return torch.randint(spec.vocab_size, (B, T), generator=torch.Generator().manual_seed(3))


def at_once(runner, ids_BT) -> torch.Tensor:
    tables = torch.arange(B * n_blocks(T), dtype=torch.int32).view(B, -1).numpy()
    return runner.run(batch(ids_BT, 0, tables)).logits.view(B, T, -1).clone()


@torch.no_grad()
def assert_as_forward(runner, reference: Transformer, precise: float = 1e-4) -> None:
    ids_BT = some_ids(reference.spec)
    expected = reference(ids_BT)
    found = told(reference, ids_BT, N_PROMPT, runner)
    torch.testing.assert_close(found, expected[:, N_PROMPT - 1 :], atol=precise, rtol=0)
    torch.testing.assert_close(at_once(runner, ids_BT), expected, atol=precise, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SPECS)
def test_behind_the_cache_stands_what_the_forward_says(name, kind):
    model = random_model(SPECS[name])
    assert_as_forward(KINDS[kind](model, B * n_blocks(T)), model)


@pytest.mark.parametrize("name", SPECS)
def test_weights_in_bfloat16_are_computed_with_in_float32(name):
    model = random_model(SPECS[name], torch.bfloat16)
    runner = NativeRunner(model, B * n_blocks(T))
    assert_as_forward(runner, random_model(SPECS[name], torch.bfloat16).float())


def on_grid(weight: torch.Tensor) -> torch.Tensor:
    """The nearest of 255 values of each output's, (…, d_out, d_in)."""
    scale = weight.abs().amax(-1, keepdim=True) / 127
    return (weight / scale).round() * scale


@torch.no_grad()
def rounded(model: Transformer) -> Transformer:
    """The model that int8 stands for: all products but the router's; ids are looked up as they were."""
    out = Transformer(varied(model.spec, tied=False))
    out.load_state_dict(model.state_dict())
    for name, module in out.named_modules():
        if isinstance(module, LatentAttention):
            s = module.shape
            k, v = module.w_ukv.weight.view(s.n_heads, -1, s.d_kv_latent).split((s.d_nope, s.d_value), 1)
            k.copy_(on_grid(k.mT).mT)  # absorbed: from the query into the latent
            v.copy_(on_grid(v))
        elif isinstance(module, ExpertLinear):
            module.matrices().mT.copy_(on_grid(module.matrices().mT))
        elif isinstance(module, Linear) and not name.endswith(("w_ukv", "w_router")):
            module.weight.copy_(on_grid(module.weight))
    return out


@pytest.mark.parametrize("name", SPECS)
def test_int8_is_the_model_with_rounded_weights(name):
    model = random_model(SPECS[name])
    assert_as_forward(NativeRunner(model, B * n_blocks(T), "int8"), rounded(model), 3e-4)


@pytest.mark.parametrize("precision", ["as is", "int8", "bf16"])
@pytest.mark.parametrize("name", SPECS)
def test_chunks_and_threads_change_no_bit(name, precision, monkeypatch):
    monkeypatch.setattr(native, "WORTH_A_THREAD", 0)
    model = random_model(SPECS[name], torch.bfloat16 if precision == "bf16" else torch.float32)
    runner = NativeRunner(model, B * n_blocks(T), "int8" if precision == "int8" else "as is")
    ids_BT, found = some_ids(model.spec), []
    for runner.n_threads in (1, 2):
        whole = at_once(runner, ids_BT)[:, N_PROMPT - 1 :]
        found += [whole, told(model, ids_BT, N_PROMPT, runner), told(model, ids_BT, T - 3, runner)]
    assert all(torch.equal(logits[:, -4:], found[0][:, -4:]) for logits in found)
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if spec.n_mtp])
@torch.no_grad()
def test_an_extra_depth_says_what_the_model_says(name, kind):
    model = random_model(SPECS[name])
    ids_BT = some_ids(model.spec)
    hidden_BTD = model.predict_further(model.hidden(ids_BT)[0], ids_BT)[0]
    expected = model.head(model.depths[0].final(hidden_BTD))[:, :-1]
    runner = KINDS[kind](model, B * n_blocks(T))
    tables = torch.arange(B * n_blocks(T), dtype=torch.int32).view(B, -1).numpy()
    runner.run(batch(ids_BT, 0, tables))
    drawn = runner.run(batch(ids_BT.roll(-1, 1), 0, tables, depth=1))
    torch.testing.assert_close(drawn.logits.view(B, T, -1)[:, :-1], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["latent", "grouped", "odd routed"])
def test_a_block_takes_the_memory_that_it_says(name, kind):
    model = random_model(SPECS[name])
    caches = KINDS[kind](model, 3).caches
    tensors = [tensor for cache in caches for tensor in (cache if isinstance(cache, tuple) else (cache,))]
    assert sum(tensor.nbytes for tensor in tensors) == 3 * KINDS[kind].block_bytes(model)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_no_numbers_end_no_process(kind):
    model = random_model(LATENT)
    kept = model.norm.weight.detach().clone()
    engine = Engine(model, compiled=kind == "compiled")
    before = [token.id for token in run(engine)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(float("nan"))
    engine.refresh()
    assert kept.isfinite().all()
    assert len(run(engine)) == 3
    with torch.no_grad():
        model.load_state_dict(random_model(LATENT).state_dict())
    engine.refresh()
    assert [token.id for token in run(engine)] == before


def run(engine) -> list:
    engine.submit(Request([3] * (BLOCK + 1), 3))
    tokens = []
    while engine.busy:
        tokens += engine.step()
    return tokens
