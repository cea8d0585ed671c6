"""What a process asks of its libraries can be asked anywhere."""

from types import SimpleNamespace

import pytest
import torch

from nomoat.parallel.process import fast_bf16, keep_freed_memory


def test_freed_memory_can_be_asked_to_stay():
    keep_freed_memory()


@pytest.mark.parametrize(("device", "probe", "fast"), [
    ("cuda", None, True), ("cpu", lambda: True, True), ("cpu", lambda: False, False), ("cpu", None, False),
])  # fmt: skip
def test_bf16_is_fast_where_the_processor_multiplies_it(monkeypatch, device, probe, fast):
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(_is_mkldnn_bf16_supported=probe))
    assert fast_bf16(torch.device(device)) is fast
