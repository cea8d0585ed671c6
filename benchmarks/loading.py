"""How long a model takes to load beside reading its file, and how much memory beside its size.

    python -m benchmarks.loading
    python -m benchmarks.loading --gigabytes 0.3 --rounds 5

A side of a round is a process of its own: it either reads the bytes of the weights into memory or loads the
model from them, in the precision of the file, once, with the file in the kernel's cache.  The sides take
turns and the ratio is taken within each round.  Memory is what the process's high-water mark (VmHWM, Linux)
rose while it loaded, over the size of the file.  Two shapes: half-split queries and keys, as Llama has them,
are put in our order; experts' ways down are turned round.  Exit code 1: a median was above its limit.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.common import Row, compare, environment, report
from nomoat.config import parse
from nomoat.model.counts import layer_params
from nomoat.model.spec import Spec
from nomoat.weights import directory

TIME_LIMIT, MEMORY_LIMIT = 1.3, 1.15
GROUPED = {"kind": "grouped", "n_heads": 16, "n_kv_heads": 4, "d_head": 128}
LATENT = {"kind": "latent", "n_heads": 16, "d_nope": 96, "d_rope": 32, "d_value": 96, "d_kv_latent": 256}
SHAPES = {
    "Llama, dense": {"attention": GROUPED, "ffn": {"kind": "dense", "d_hidden": 5632}},
    "DeepSeek, experts": {
        "attention": LATENT,
        "ffn": {
            "kind": "routed", "d_dense": 5632, "n_routed": 16, "n_active": 2, "d_expert": 704,
        },
    },
}  # fmt: skip


def write(name: str, gigabytes: float, place: Path) -> None:
    """A model of about so many GB in bf16, in a directory."""
    table = {"vocab_size": 8192, "n_layers": 2, "d_model": 2048, **SHAPES[name]}
    spec = parse(Spec, table, "spec")
    n_layers = round(gigabytes * 1e9 / (2 * layer_params(spec, 1)))
    model = directory.empty(spec.changed(n_layers=max(n_layers, 2)), dtype=torch.bfloat16)
    for parameter in model.parameters():
        parameter.data.uniform_(-1, 1)
    directory.save(model, place)


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) << 10


def once(side: str, place: Path) -> None:
    """What a process of its own does: prints seconds, and bytes that the high-water mark rose."""
    Path("/proc/self/clear_refs").write_text("5")
    before, start = peak_bytes(), time.perf_counter()
    if side == "load":
        kept = directory.load(place, dtype=torch.bfloat16)
    else:
        kept = [path.read_bytes() for path in place.glob("*.safetensors")]
    seconds = time.perf_counter() - start
    print(seconds, peak_bytes() - before, bool(kept))


def measured(side: str, place: Path) -> tuple[float, int]:
    command = [sys.executable, "-m", "benchmarks.loading", "--once", side, str(place)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(out[0]), int(out[1])


def rows(name: str, gigabytes: float, rounds: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        write(name, gigabytes, place)
        size = sum(path.stat().st_size for path in place.glob("*.safetensors"))
        both = [(*measured("load", place), *measured("read", place)) for _ in range(rounds)]
    ours, grown, peer, _ = map(list, zip(*both))
    memory = [n_bytes / 1e9 for n_bytes in grown]
    sizes = [size / 1e9] * rounds
    return [
        compare(f"{name}: time", "s", ours, peer, "read_bytes"),
        compare(f"{name}: memory", "GB", memory, sizes, "size of the file"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--once", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.once:
        once(asked.once[0], Path(asked.once[1]))
        return 0
    table = [row for name in SHAPES for row in rows(name, asked.gigabytes, asked.rounds)]
    limits = [f"limits: {TIME_LIMIT} times reading, {MEMORY_LIMIT} times the size"]
    report("Loading a model", table, environment(torch.get_num_threads()), limits, asked.json)
    worst = [row.ratio for row in table]
    return int(max(worst[::2]) > TIME_LIMIT or max(worst[1::2]) > MEMORY_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
