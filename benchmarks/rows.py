"""Sampling by an old build against a new one, the builds in turn: 32 + 64 tokens a row, random weights.

    python -m benchmarks.rows OLD_CHECKOUT NEW_CHECKOUT --rows 64 256 --threads 2 --rounds 5

Each figure is of a process of its own, which imports nothing but its build; its first call doesn't count.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.common import SPEC

WORKER = """
import json, sys, time
import torch
rows, threads, shape = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
torch.set_num_threads(threads)
try:
    from nomoat.engine.generate import sample
    from nomoat.config import parse
    from nomoat.model.spec import Spec
    spec, more = parse(Spec, shape, "shape"), {}
except ImportError:
    from nomoat.infer.engine import sample
    from nomoat.model.spec import ModelSpec
    a, f = shape.pop("attention"), shape.pop("ffn")
    rest = {k: v for k, v in (shape | a | f).items() if k in ModelSpec.model_fields}
    spec, more = ModelSpec(**rest, d_ffn=f["d_dense"]), {"pad_id": 0}
from nomoat.model.transformer import Transformer
model = Transformer(spec).eval()
generator = torch.Generator().manual_seed(0)
for parameter in model.parameters():
    if parameter.ndim > 1:
        parameter.data.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
prompts = torch.randint(8, 4096, (rows, 32), generator=generator).tolist()
rates = []
for number in range(4):
    start = time.perf_counter()
    sample(model, prompts, max_new_tokens=64, seed=number, stop_ids=[], **more)
    rates.append(rows * 64 / (time.perf_counter() - start))
print(max(rates[1:]))
"""


def rate(checkout: Path, rows: int, threads: int) -> float:
    """Tokens a second: the best of three calls, the processor being shared."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    env["PYTHONPATH"] = str(checkout.resolve())
    asked = (str(rows), str(threads), SPEC.model_dump_json())
    command = [sys.executable, "-c", WORKER, *asked]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=checkout)
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr[-2000:]}")
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout")
    parser.add_argument("new", type=Path, help="another")
    parser.add_argument("--rows", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print("| rows | old, tokens/s | new, tokens/s | times (lowest to highest) |\n|---|---|---|---|")
    for rows in args.rows:
        pairs = []
        for _ in range(args.rounds):
            old = rate(args.old, rows, args.threads)
            pairs.append((old, rate(args.new, rows, args.threads)))
        print(line(rows, pairs), flush=True)


def line(rows: int, pairs: list[tuple[float, float]]) -> str:
    """A line of the table, of (old, new) of each round."""
    old, new = (statistics.median(side) for side in zip(*pairs))
    times = [after / before for before, after in pairs]
    span = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
    return f"| {rows} | {old:.0f} | {new:.0f} | {span} |"


if __name__ == "__main__":
    main()
