"""Products in bfloat16: what they round, what they sum, and that company changes no bit of them."""

import ctypes

import pytest
import torch
from behind import batch, random_model
from shapes import shape

from nomoat.config import ConfigError
from nomoat.engine.blocks import n_blocks
from nomoat.engine.generate import sample
from nomoat.engine.native import build
from nomoat.engine.native import runner as native
from nomoat.engine.native.layout import Weights
from nomoat.engine.native.runner import NativeRunner
from nomoat.model.linear import ExpertLinear, Linear

GROUPED = shape(
    vocab_size=77, n_layers=2, d_model=72, n_heads=4, n_kv_heads=2, d_head=18, d_ffn=90, context=64,
    qkv_bias=True,
)  # fmt: skip
LATENT = shape(
    vocab_size=77, n_layers=2, d_model=40, n_heads=3, d_nope=10, d_rope=6, d_value=9, d_kv_latent=34,
    d_q_latent=20, n_routed=5, n_active=2, d_expert=13, d_ffn=41, context=64,
)  # fmt: skip
EVEN = shape(  # whole tiles: nothing is padded
    vocab_size=64, n_layers=2, d_model=64, n_heads=2, d_nope=32, d_rope=32, d_value=32, d_kv_latent=64,
    n_routed=4, n_active=2, d_expert=32, d_ffn=64, context=64,
)  # fmt: skip
SPECS = pytest.mark.parametrize("spec", [GROUPED, LATENT, EVEN], ids=["grouped", "latent", "even"])
SHAPES = [(1, 1), (31, 33), (32, 32), (64, 96), (77, 5), (576, 70), (33, 129)]  # d_in, d_out
ROWS = [1, 2, 15, 16, 17, 31, 33, 50]
FAR = 7  # numbers between one row of x and the next
ROOM = 3  # the same of a result
EDGE = 1e30  # stands where nothing may be written

needs_tiles = pytest.mark.skipif(not build.tiles(), reason="the processor has no tiles")


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def multiplied(weight, x_MK, bias=None) -> torch.Tensor:
    """x W^T + b as a compiled step computes it; rows lie apart from each other."""
    weights = Weights.__new__(Weights)
    weights.precision, weights.alive = "bf16", []
    made = build.library()
    weights.width = made.width()
    record = weights.matrix(weight, bias)
    M, d_in = x_MK.shape
    wide = torch.full((M, d_in + FAR), float("nan"))
    wide[:, :d_in] = x_MK
    out = torch.full((M + 1, len(weight) + ROOM), EDGE)
    strides = [ctypes.c_long(tensor.shape[1]) for tensor in (wide, out)]
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (wide, out)]
    made.multiplied(ctypes.byref(record), pointers[0], strides[0], pointers[1], strides[1], M)
    assert (out[M] == EDGE).all() and (out[:, len(weight) :] == EDGE).all()
    return out[:M, : len(weight)].clone()


def as_multiplied(x_MK: torch.Tensor) -> torch.Tensor:
    """What of x goes into a product: rounded where there are tiles, as it is without."""
    return x_MK.bfloat16().double() if build.tiles() else x_MK.double()


@pytest.mark.parametrize("d_in, d_out", SHAPES)
@pytest.mark.parametrize("is_biased", [False, True])
def test_a_product_is_that_of_the_rounded_factors(d_in, d_out, is_biased):
    weight, x_MK = random(d_out, d_in, seed=1), random(max(ROWS), d_in, seed=2)
    bias = random(d_out, seed=3) if is_biased else None
    expected = as_multiplied(x_MK) @ weight.bfloat16().double().T + (bias if is_biased else 0)
    for M in ROWS:
        found = multiplied(weight, x_MK[:M], bias)
        torch.testing.assert_close(found.double(), expected[:M], atol=1e-6 * (d_in + 3), rtol=0)


@pytest.mark.parametrize("d_in, d_out", SHAPES)
def test_a_row_alone_and_in_company_is_the_same_bits(d_in, d_out):
    weight, x_MK = random(d_out, d_in, seed=1), random(600, d_in, seed=2)
    alone = torch.cat([multiplied(weight, x_MK[i : i + 1]) for i in range(max(ROWS))])
    columns = weight.mT.contiguous().mT  # as the matrices of latents and experts lie
    for M in (*ROWS, 600):
        for same in (weight, columns):
            assert torch.equal(multiplied(same, x_MK[:M])[: max(ROWS)], alone[:M])
    assert torch.equal(multiplied(weight, x_MK[5:30]), alone[5:30])


def test_what_is_no_number_stays_in_its_row():
    weight, x_MK = random(40, 50, seed=1), random(20, 50, seed=2)
    expected = multiplied(weight, x_MK)
    x_MK[3, 49], x_MK[17, 0] = float("nan"), float("inf")
    found = multiplied(weight, x_MK)
    assert found[3].isnan().all() and not found[17].isfinite().any()
    others = [i for i in range(20) if i not in (3, 17)]
    assert torch.equal(found[others], expected[others])


@needs_tiles
def test_tiles_round_to_even_and_count_denormals_as_zero():
    one = torch.ones(1, 1)
    halfway = torch.tensor([[1 + 2**-8], [1 + 3 * 2**-8], [-1 - 2**-8], [1e-40]])
    assert multiplied(one, halfway).flatten().tolist() == [1, 1 + 2**-6, -1, 0]


def some_ids(spec) -> torch.Tensor:
    return torch.randint(spec.vocab_size, (4, 20), generator=torch.Generator().manual_seed(3))


def logits(runner, ids_BT) -> torch.Tensor:
    tables = torch.arange(ids_BT.numel(), dtype=torch.int32).view(ids_BT.shape)
    tables = tables[:, : n_blocks(ids_BT.shape[1])].contiguous().numpy()
    return runner.run(batch(ids_BT, 0, tables)).logits.view(*ids_BT.shape, -1).clone()


@pytest.mark.parametrize("has_tiles", [pytest.param(True, marks=needs_tiles), False])
@SPECS
def test_probabilities_are_near_those_in_float32(spec, has_tiles, monkeypatch):
    monkeypatch.setattr(build, "tiles", lambda: has_tiles)
    model, ids_BT = random_model(spec), some_ids(spec)
    exact, found = (logits(NativeRunner(model, 80, precision), ids_BT) for precision in ("as is", "bf16"))
    assert (found.log_softmax(-1) - exact.log_softmax(-1)).abs().mean() < 0.02
    assert not torch.equal(found, exact)


@SPECS
def test_without_tiles_weights_are_rounded_and_nothing_else(spec, monkeypatch):
    monkeypatch.setattr(build, "tiles", lambda: False)
    model, ids_BT = random_model(spec), some_ids(spec)
    found = logits(NativeRunner(model, 80, "bf16"), ids_BT)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, (Linear, ExpertLinear)) and not name.endswith("w_router"):
                module.weight.copy_(module.weight.bfloat16())
    assert torch.equal(logits(NativeRunner(model, 80), ids_BT), found)


@SPECS
def test_threads_and_company_change_no_bit_of_a_step(spec, monkeypatch):
    monkeypatch.setattr(native, "WORTH_A_THREAD", 0)
    runner = NativeRunner(random_model(spec), 80, "bf16")
    ids_BT, found = some_ids(spec), []
    for runner.n_threads in (1, 2):
        whole = logits(runner, ids_BT)
        rows = torch.cat([logits(runner, row[None]) for row in ids_BT])
        few = torch.cat([logits(runner, row[None, :5]) for row in ids_BT])
        found += [whole, rows, torch.cat([few, whole[:, 5:]], 1)]
    assert all(torch.equal(other, found[0]) for other in found)


def test_samples_are_drawn_in_the_precision_that_is_asked_for():
    model = random_model(GROUPED)
    how = {"max_new_tokens": 20, "seed": 1, "stop_ids": []}
    [[exact]], [[found]] = (sample(model, [[3, 4]], precision=p, **how) for p in ("as is", "bf16"))
    assert not torch.equal(exact.logp_T, found.logp_T)
    [[first], *_] = sample(model, [[3, 4], [5], [6, 7]], precision="bf16", **how)
    assert torch.equal(first.ids_T, found.ids_T) and torch.equal(first.logp_T, found.logp_T)


def test_an_engine_has_its_own_precision():
    with pytest.raises(ConfigError, match="one of the two"):
        sample(
            random_model(GROUPED), [[3]], max_new_tokens=1, seed=1, stop_ids=[], engine=object(),
            precision="bf16",
        )  # fmt: skip
