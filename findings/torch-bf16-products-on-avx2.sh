#!/usr/bin/env bash
# torch 2.13.0 (CPU build), a processor with AVX2 and without bf16 instructions (no avx512_bf16, no amx_bf16): a product of
# bf16 matrices takes many times as long as the same product in float32, although it moves half of the bytes.
#
# Seen on an AMD EPYC with AVX2, one thread, 1024 x 1024 x 1024: float32 88 GFLOP/s, bf16 1.4 GFLOP/s, a ratio of 64.
# torch.ops.mkldnn._is_mkldnn_bf16_supported() says False there, and nothing warns.  On a processor with bf16
# instructions this script has nothing to show and says so.
#
# Exit code 0: as described, or not such a processor; 1: the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5
"$place/env/bin/python" - <<'PYTHON'
import sys
import time

import torch

torch.set_num_threads(1)
print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability())
if torch.ops.mkldnn._is_mkldnn_bf16_supported():
    print("this processor multiplies bf16 itself: nothing to show")
    sys.exit(0)


def rate(dtype: torch.dtype) -> float:
    a, b = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
    a @ b
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * 1024**3 / min(seconds) / 1e9


wide, narrow = rate(torch.float32), rate(torch.bfloat16)
print(f"float32 {wide:.1f} GFLOP/s, bfloat16 {narrow:.1f} GFLOP/s, ratio {wide / narrow:.0f}")
sys.exit(0 if wide / narrow > 5 else 1)
PYTHON
