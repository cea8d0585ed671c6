#!/usr/bin/env bash
# llama.cpp of October 2026 (xllamacpp 2026.10.11549): `rope.scaling.yarn_beta_fast` and `rope.scaling.yarn_beta_slow` of a
# GGUF file, which the package gguf 0.19.0 names and writes, change nothing; set as parameters of the server they do.
#
# Seen: a llama of one layer, random weights, YaRN of factor 4.  Largest difference between log probabilities of a next
# token and those of a file with 32 and 1: 0 with 4 and 3 in the file, 6.9 with 4 and 3 as parameters.
#
# Exit code 0: as described; 1: the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    xllamacpp==2026.10.11549 gguf==0.19.0 numpy==2.3.5
"$place/env/bin/python" - <<'PYTHON'
import sys
import tempfile
from pathlib import Path

import gguf
import numpy
import xllamacpp

WIDTH, HEADS, FFN, WORDS = 64, 2, 64, 64
PROMPT = [3, *range(10, 50)]


def write(path: Path, betas: tuple[float, float]) -> None:
    """A llama of one layer with random weights, YaRN of factor 4 and these betas."""
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_context_length(256)
    w.add_embedding_length(WIDTH)
    w.add_block_count(1)
    w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(HEADS)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_rope_dimension_count(WIDTH // HEADS)
    w.add_rope_freq_base(10000.0)
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(4.0)
    w.add_rope_scaling_orig_ctx_len(64)
    w.add_rope_scaling_yarn_beta_fast(betas[0])
    w.add_rope_scaling_yarn_beta_slow(betas[1])
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    signs = [chr(33 + i) for i in range(WORDS)]
    w.add_token_list(signs)
    w.add_token_types([gguf.TokenType.NORMAL] * WORDS)
    w.add_token_merges([f"{signs[0]} {signs[1]}"])
    w.add_bos_token_id(0)
    w.add_eos_token_id(1)
    random = numpy.random.default_rng(0)
    shapes = {"token_embd": (WORDS, WIDTH), "output": (WORDS, WIDTH)}
    shapes |= {f"blk.0.attn_{n}": (WIDTH, WIDTH) for n in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (FFN, WIDTH), "blk.0.ffn_up": (FFN, WIDTH), "blk.0.ffn_down": (WIDTH, FFN)}
    for name, shape in shapes.items():
        w.add_tensor(f"{name}.weight", random.normal(0, 0.3, shape).astype(numpy.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        w.add_tensor(f"{name}.weight", numpy.ones(WIDTH, numpy.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def logprobs(path: Path, betas: tuple[float, float] | None = None) -> dict[int, float]:
    """Of the next token; with betas set as parameters of the server, if any."""
    p = xllamacpp.CommonParams()
    p.model.path, p.n_ctx, p.n_parallel, p.port, p.verbosity, p.warmup = str(path), 256, 1, 0, -1, False
    if betas:
        p.yarn_beta_fast, p.yarn_beta_slow = betas
    asked = {"prompt": PROMPT, "max_tokens": 1, "temperature": 0.0, "logprobs": WORDS}
    choice = xllamacpp.Server(p).handle_completions(asked)["choices"][0]
    return {top["id"]: top["logprob"] for top in choice["logprobs"]["content"][0]["top_logprobs"]}


def apart(one: dict[int, float], other: dict[int, float]) -> float:
    return max(abs(one[i] - other[i]) for i in one)


with tempfile.TemporaryDirectory() as name:
    usual, others = Path(name) / "usual.gguf", Path(name) / "others.gguf"
    write(usual, (32.0, 1.0))
    write(others, (4.0, 3.0))
    plain = logprobs(usual)
    by_key, by_parameter = apart(plain, logprobs(others)), apart(plain, logprobs(usual, (4.0, 3.0)))
print(f"betas 4 and 3 in the file: {by_key:.3f}; as parameters of the server: {by_parameter:.3f}")
sys.exit(0 if by_key < 1e-6 < 0.01 < by_parameter else 1)
PYTHON
