"""Emulated FP8: what E4M3 holds stays, what it does not is off by its last bit, tile by tile; training hardly
notices."""

import pytest
import torch
import torch.nn.functional as F
from shapes import built, shape

from nomoat.data.packing import Batch
from nomoat.lab.fp8 import ALONG_COLUMN, ALONG_ROW, BLOCK, TILE, Product, emulated, rounded
from nomoat.model.transformer import Transformer
from nomoat.train.objective import ObjectiveConfig, gradient
from nomoat.train.optim import OptimConfig, Optimizer

GRID = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
GRID = GRID[GRID.isfinite()]  # up to 448
TILES = {"row": ALONG_ROW, "column": ALONG_COLUMN, "block": BLOCK}
SPEC = shape(
    vocab_size=61, n_layers=2, d_model=32, n_heads=2, d_nope=8, d_rope=8, d_value=16, d_kv_latent=16,
    d_q_latent=24, d_ffn=48, n_dense_layers=1, n_routed=4, n_shared=1, n_active=2, d_expert=16,
    n_mtp=1, context=32,
)  # fmt: skip


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made() -> Transformer:
    """No block is the identity, as it is before training."""
    model = Transformer(SPEC).initialise(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith(("w_o.weight", "w_down.weight")):
                p.copy_(drawn(*p.shape, seed=len(name)) * p.shape[-1] ** -0.5)
    return model


def batch(step: int) -> Batch:
    """Rows that a model can learn: each token is the one before plus the row's own stride."""
    g = torch.Generator().manual_seed(step)
    start_B1, stride_B1 = torch.randint(0, 61, (8, 1), generator=g), torch.randint(1, 4, (8, 1), generator=g)
    ids = (start_B1 + stride_B1 * torch.arange(33)) % 61
    return Batch(ids[:, :-1], ids[:, 1:], torch.zeros(8, 32, dtype=torch.int32))


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("scale", [1.0, 2.0**-9, 2.0**7])
def test_numbers_of_the_grid_are_exact_when_the_scale_is(tile, scale):
    x = GRID[torch.randint(len(GRID), (256, 256), generator=torch.Generator().manual_seed(0))].clone()
    x[:: TILE // 4], x[:, :: TILE // 4] = GRID.max(), GRID.min()  # every tile has its largest
    torch.testing.assert_close(rounded(x * scale, TILES[tile]), x * scale, rtol=0, atol=0)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", [(256, 384), (3, 130, 200), (1, 5)], ids=str)
def test_the_error_is_half_of_the_last_bit_or_of_the_smallest_step(tile, shape):
    x = drawn(*shape) * 10.0 ** drawn(*shape, seed=1)
    rows, columns = TILES[tile]
    out, n_off = rounded(x, TILES[tile]), 0
    assert out.shape == x.shape
    for i in range(0, shape[-2], rows):
        for j in range(0, shape[-1], columns):
            a, b = (t[..., i : i + rows, j : j + columns].abs().double() for t in (x, out))
            for k in (
                range(a.shape[0]) if a.ndim == 3 else [...]
            ):  # 3 bits behind the point, subnormals of 2^-9
                bound = (a[k] * 2.0**-4).maximum(a[k].max() / 448 * 2.0**-10) * (1 + 1e-5)
                assert ((a[k] - b[k]).abs() <= bound).all()
                assert a[k].max().item() == pytest.approx(b[k].max().item(), rel=1e-6)
                n_off += int((a[k] != b[k]).sum())
    assert n_off > 0 or rows * columns == 1 or x.numel() < 10


@pytest.mark.parametrize("tile", TILES)
def test_an_outlier_spoils_its_own_tile_alone(tile):
    x = drawn(256, 256)
    spoilt = x.clone()
    spoilt[7, 9] = 1e6
    same = rounded(x, TILES[tile]) == rounded(spoilt, TILES[tile])
    rows, columns = TILES[tile]
    its_own = torch.zeros_like(same)
    its_own[
        7 // rows * rows : 7 // rows * rows + rows, 9 // columns * columns : 9 // columns * columns + columns
    ] = True
    assert same[~its_own].all()
    assert not same[its_own].any() or rows * columns == 1
    assert not rounded(torch.zeros(2, 300), TILES[tile]).any()


@pytest.mark.parametrize("batched", [False, True], ids=["linear", "experts"])
def test_the_three_products_are_sums_over_rounded_operands(batched):
    """Forward, by the input and by the weight, each by hand; and each within the error of two roundings of
    the exact."""
    lead = (2,) if batched else ()
    x, w, grad = drawn(*lead, 200, 160), drawn(*lead, 160, 130, seed=1), drawn(*lead, 200, 130, seed=2)
    x.requires_grad_()
    w.requires_grad_()
    out = Product.apply(x, w)
    grad_x, grad_w = torch.autograd.grad(out, (x, w), grad)
    x_8, w_8 = rounded(x, ALONG_ROW), rounded(w, BLOCK)
    by_hand = (
        (out, x_8 @ w_8, x @ w),
        (grad_x, rounded(grad, ALONG_ROW) @ w_8.mT, grad @ w.mT),
        (grad_w, rounded(x_8, ALONG_COLUMN).mT @ rounded(grad, ALONG_COLUMN), x.mT @ grad),
    )
    for found, expected, exact in by_hand:
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
        assert 0.01 < (found - exact).norm() / exact.norm() < 0.05


WAYS = {"sorted": {}, "wide": {"experts": "wide"}, "plain": {"attention": "plain"}, "dense": {"n_routed": 0}}


@pytest.mark.parametrize("way", WAYS)
def test_every_hidden_matrix_is_multiplied_in_fp8_and_nothing_else(way, monkeypatch):
    """The report's list: not the embedding, the head, the router, the norms, nor attention's own two
    products."""
    model = built(SPEC, **WAYS[way]).initialise(0).bfloat16()
    of = {p.untyped_storage().data_ptr(): name for name, p in model.named_parameters()}
    met, forward = [], Product.forward
    monkeypatch.setattr(
        Product,
        "forward",
        lambda ctx, x, w: (met.append(of.get(w.untyped_storage().data_ptr())), forward(ctx, x, w))[1],
    )
    with emulated(model):
        gradient(model, batch(0), ObjectiveConfig())
    exact = ("embed.weight", "head.weight")
    hidden = {n for n, p in model.named_parameters() if p.ndim > 1 and n not in exact and "router" not in n}
    assert set(met) == hidden
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_outside_nothing_is_rounded():
    model = made()
    ids_BT = batch(0).ids_BT
    with torch.no_grad():
        before = model(ids_BT)
        with emulated(model):
            inside = model(ids_BT)
        assert torch.equal(model(ids_BT), before)
        assert not torch.equal(inside, before)


def test_the_gradient_is_close_to_the_exact_one():
    grads = []
    for way in ("exact", "fp8"):
        model = made()
        if way == "fp8":
            with emulated(model):
                gradient(model, batch(0), ObjectiveConfig())
        else:
            gradient(model, batch(0), ObjectiveConfig())
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    exact, found = grads
    assert F.cosine_similarity(exact, found, dim=0) > 0.99
    assert (exact - found).norm() / exact.norm() < 0.1
    assert not torch.equal(exact, found)


@pytest.mark.check
def test_training_ends_near_where_the_exact_one_does():
    ends = []
    for way in ("exact", "fp8"):
        model = built(SPEC, init_std=0.15).initialise(0)
        optimizer = Optimizer(model, OptimConfig(adam_lr=1e-2))
        losses = []
        for step in range(60):
            if way == "fp8":
                with emulated(model):
                    losses.append(gradient(model, batch(step), ObjectiveConfig()).loss)
            else:
                losses.append(gradient(model, batch(step), ObjectiveConfig()).loss)
            optimizer.step(1 - step / 60, float(optimizer.grad_norm()))
        ends.append((losses[0], sum(losses[-10:]) / 10))
    (first, exact), (_, found) = ends
    assert exact < 0.5 * first
    assert found == pytest.approx(exact, rel=0.1)
