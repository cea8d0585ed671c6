"""Weights go to the device in a precision that it multiplies."""

from types import SimpleNamespace

import pytest
import torch

from nomoat.model.transformer import Transformer
from nomoat.parallel.mesh import ALONE
from nomoat.run.directory import Run
from nomoat.stages import models
from nomoat.train.session import Session
from tests.shapes import shape

SPEC = shape(
    vocab_size=32,
    n_layers=2,
    d_model=16,
    context=16,
    n_heads=2,
    d_nope=8,
    d_rope=4,
    d_value=8,
    d_kv_latent=8,
    d_ffn=16,
    n_dense_layers=1,
    n_routed=4,
    n_shared=1,
    n_active=2,
    d_expert=8,
)


def test_a_new_model_has_as_many_ids_as_the_tokenizer_and_the_log_says_so_once(tmp_path):
    session = Session(Run.create(tmp_path / "run", {}), "distill", ALONE, stop=None, energy=None)
    assert models.new_spec(session, SPEC, SimpleNamespace(vocab_size=32)) is SPEC
    assert session.run.events() == []
    for _ in range(2):
        assert models.new_spec(session, SPEC, SimpleNamespace(vocab_size=30)) == SPEC.changed(vocab_size=30)
    assert [event["text"] for event in session.run.events("note")] == [
        "the text gave 30 of 32 tokens, and so many the model has"
    ]


@pytest.mark.parametrize(
    ("precision", "fast", "dtype", "notes"),
    [
        ("bf16", True, torch.bfloat16, 0),
        ("bf16", False, torch.float32, 1),
        ("fp32", True, torch.float32, 0),
        ("fp32", False, torch.float32, 0),
    ],
)
def test_slow_bf16_is_float32_and_the_log_says_so_once(tmp_path, monkeypatch, precision, fast, dtype, notes):
    monkeypatch.setattr(models, "fast_bf16", lambda _: fast)
    run = Run.create(tmp_path / "run", {})
    for stage in ("pretrain", "distill"):
        session = Session(run, stage, ALONE, stop=None, energy=None)
        model = models.to_device(Transformer(SPEC), session, precision)
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}
        assert all(buffer.dtype == torch.float32 for buffer in model.buffers())
    assert [event["text"] for event in run.events("note")] == [models.SLOW_BF16] * notes
