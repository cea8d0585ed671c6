"""Texts behind shared beginnings in one row: attention text by text is attention under a dense mask."""

import pytest
import torch
from shapes import shape

from nomoat.model.kernels import swiglu
from nomoat.model.spans import Spans
from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer
from nomoat.rl.rows import PROMPT, group_mask

SIZES = {"vocab_size": 61, "n_layers": 2, "d_model": 24, "d_ffn": 32, "context": 400, "init_std": 0.3}
LATENT = {"n_heads": 2, "d_nope": 8, "d_rope": 4, "d_value": 6, "d_kv_latent": 8}
BEGINNINGS = [5, 2, 9]
TEXTS = [(0, 200), (2, 150), (2, 7), (1, 6), (0, 6), (1, 1), (2, 0)]  # (beginning, length), longest first


def model_of(attention: str, kernels: Kernels) -> Transformer:
    spec = shape(**SIZES, **LATENT)
    if attention == "grouped":
        grouped = {"kind": "grouped", "n_heads": 4, "n_kv_heads": 2, "d_head": 6, "d_value": 6}
        spec = spec.changed(attention=grouped)
    model = Transformer(spec, kernels).initialise(0)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=0.3, generator=generator)
    return model


def segments() -> tuple[torch.Tensor, torch.Tensor]:
    """(row of beginning, segment) of each column: texts of one beginning, and itself, are of one row."""
    rows, segment = [], []
    for number, length in enumerate(BEGINNINGS):
        rows += [number] * length
        segment += [PROMPT] * length
    for number, (begin, length) in enumerate(TEXTS, PROMPT + 1):
        rows += [begin] * length
        segment += [number] * length
    return torch.tensor(rows), torch.tensor(segment)


def columns() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, positions and the dense mask of the row."""
    rows, segment = segments()
    pos = [torch.arange(length) for length in BEGINNINGS]
    pos += [BEGINNINGS[begin] + torch.arange(length) for begin, length in TEXTS]
    ids_BT = torch.randint(61, (1, len(rows)), generator=torch.Generator().manual_seed(2))
    mask = group_mask(segment[None]) & (rows[:, None] == rows[None, :])
    return ids_BT, torch.cat(pos)[None], mask


@pytest.mark.parametrize("attention", ["latent", "grouped"])
@pytest.mark.parametrize("kernels", [Kernels(attention="plain"), Kernels(recompute=True)], ids=str)
def test_text_by_text_is_the_same_as_a_mask(attention, kernels):
    model = model_of(attention, kernels)
    ids_BT, pos_BT, mask = columns()
    out = []
    for how in (mask, Spans.of(BEGINNINGS, TEXTS)):
        model.zero_grad()
        h_BTD, _ = model.hidden(ids_BT, pos_BT, how)
        h_BTD.square().sum().backward()
        grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        out.append([h_BTD.detach(), *grads])
    assert len(out[0]) > 6
    for got, want in zip(*reversed(out), strict=True):  # of single numbers of a gradient little may be left
        assert (got - want).norm() < 2e-5 * want.norm()


def test_fewer_pairs_are_multiplied_than_a_mask_has():
    ids_BT, _, mask = columns()
    spans = Spans.of(BEGINNINGS, TEXTS)
    assert mask.sum() <= spans.n_scores < 0.6 * ids_BT.shape[1] ** 2


def test_swiglu_keeps_what_enters_alone_and_has_the_gradient_of_its_formula():
    x = torch.randn(5, 14, dtype=torch.float64, requires_grad=True)
    gate, up = x.chunk(2, -1)
    by_formula = torch.nn.functional.silu(gate) * up
    torch.testing.assert_close(swiglu(x), by_formula)
    assert torch.autograd.gradcheck(swiglu, [x])
    assert [saved.data_ptr() for saved in swiglu(x).grad_fn.saved_tensors] == [x.data_ptr()]
