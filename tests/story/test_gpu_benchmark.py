"""The benchmark for one CUDA card runs through, here on the processor: every part, no law broken."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks.gpu import grouped, kernels
from benchmarks.gpu import laws as every
from benchmarks.gpu.__main__ import PARTS

ROOT = Path(__file__).parents[2]


@pytest.mark.check
def test_the_dry_run_goes_through(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry", "--json", tmp_path / "gpu.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())["results"]
    assert {result["part"] for result in results} == set(PARTS)
    assert not [result for result in results if result["value"] == "FAILED" or "BROKEN" in result["note"]]
    said = {result["what"] for result in results}
    laws = {law.__name__.replace("_", " ") for law in (*kernels.LAWS, *every.LAWS)}
    assert laws <= said
    pieces = [f"attention, {name}" for name in kernels.BACKENDS]
    pieces += ["experts, one grouped kernel", "in FP8, by the weight", "a small step, captured"]
    pieces += ["a small step, compiled", "124M active, one grouped kernel", "dense 1B, compiled blocks"]
    assert set(pieces) <= said
    times = [result["what"] for result in results if result["unit"] == "times"]
    assert len([what for what in times if "beside transformers" in what]) == 6
    assert all(f"| {result['what']} |" in done.stdout for result in results)


def test_a_part_that_fails_is_a_line_of_the_table():
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "nowhere", "--parts", "laws"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "| laws | the part | FAILED |" in done.stdout


def card(*shape, dtype=torch.bfloat16):
    return torch.empty(shape, dtype=dtype, device="meta")


def test_what_only_a_card_multiplies_has_the_form_that_it_takes():
    """On tensors without numbers: torch knows the shapes and strides that its kernels take."""
    M, K, N = 256, 384, 640
    products = grouped.products_of(card(M, K), card(N, K), card(M, N))
    shapes = {name: grouped.scaled_product(*pair()).shape for name, pair in products.items()}
    assert shapes == {"forward": (M, N), "by the input": (M, K), "by the weight": (N, K)}
    (a_MK, scale), b = products["forward"]()
    with pytest.raises(RuntimeError, match="scale a must have shape .* and stride"):
        grouped.scaled_product((a_MK, scale[:, :2]), b)
    ends_E = card(4, dtype=torch.int32)
    for matrices in (card(4, 32, 48), card(4, 48, 32).mT):  # the way down, the way up
        rows = card(64, 32)
        assert F.grouped_mm(rows, matrices, offs=ends_E).shape == (64, 48)
        back = grouped.products_back(card(64, 48), rows, matrices, ends_E)
        assert [grad.shape for grad in back] == [rows.shape, matrices.shape]
    with pytest.raises(RuntimeError, match="multiple of 16 bytes"):
        F.grouped_mm(card(64, 36), card(4, 36, 48), offs=ends_E)


QUICK = (
    kernels.attention_as_plain,
    kernels.padded_attention_as_plain,
    kernels.rows_behind_the_last_group,
    kernels.block_scaled_as_emulated,
)


@pytest.mark.parametrize("law", QUICK, ids=lambda law: law.__name__)
def test_a_candidate_is_what_it_stands_for(law):
    """The others are in the dry run."""
    assert law(torch.device("cpu")) <= kernels.LAWS[law]
