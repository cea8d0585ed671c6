#!/usr/bin/env bash
# transformers 5.24.0 with accelerate 1.15.0 (torch 2.13.0, a CPU): block-scaled FP8 read with dequantize=True takes the
# height of a block from (rows / rows of scales), not from `weight_block_size`.  Where a matrix has more than 128 rows, no
# multiple of them, and the quotient has no remainder, its rows get other scales, without a warning.
#
# Seen: up_proj of 160 x 128 in blocks of 128 x 128, two scales, 1/64 and 2/64.  Rows 128 to 159 have the second;
# what is read has it from row 80 on.
#
# Exit code 0: as described; 1: the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 numpy==2.3.5
"$place/env/bin/python" - <<'PYTHON'
import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

transformers.logging.set_verbosity_error()
ROWS, BLOCK = 160, 128
facts = {"vocab_size": 64, "hidden_size": 128, "intermediate_size": ROWS, "num_hidden_layers": 1}
heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 64}
torch.manual_seed(0)
model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**facts, **heads)).eval()
with tempfile.TemporaryDirectory() as name:
    place = Path(name)
    model.save_pretrained(place)
    tensors = load_file(place / "model.safetensors")
    matrices = [n for n in tensors if "proj" in n]
    for n in matrices:
        rows, columns = tensors[n].shape
        scales = torch.arange(1.0, 1 + -(-rows // BLOCK) * -(-columns // BLOCK)) / 64
        tensors[n + "_scale_inv"] = scales.view(-(-rows // BLOCK), -(-columns // BLOCK))
        tensors[n] = torch.ones(rows, columns).to(torch.float8_e4m3fn)
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((place / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [BLOCK, BLOCK],
    }
    (place / "config.json").write_text(json.dumps(config))
    read = transformers.AutoModelForCausalLM.from_pretrained(
        place, quantization_config=transformers.FineGrainedFP8Config(dequantize=True), dtype=torch.float32
    )
column = read.model.layers[0].mlp.up_proj.weight[:, 0]
change = int((column != column[0]).nonzero()[0])
print("transformers", transformers.__version__, "torch", torch.__version__)
print("up_proj", tuple(read.model.layers[0].mlp.up_proj.weight.shape), "second scale from row", change)
sys.exit(0 if change == ROWS // 2 else 1)
PYTHON
