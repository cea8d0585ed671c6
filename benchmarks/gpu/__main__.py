"""One CUDA card in a few minutes: does it do the same as a processor, and how fast.

    python -m benchmarks.gpu --json gpu.json
    python -m benchmarks.gpu --parts laws losses
    python -m benchmarks.gpu --dry

Every part runs in a process of its own, with a time limit; what a part said before it failed is kept, its failure is a
line of the table, and the next part follows.  Exit code 1 where a law is broken or a part failed.  `--dry` runs
everything on the processor, small, to see that it runs at all; its figures mean nothing.
"""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = {  # module of this package, function, the longest that it may take in seconds
    "environment": ("machine", "environment", 40),
    "laws": ("laws", "laws", 80),
    "losses": ("losses", "losses", 70),
    "training": ("training", "training", 100),
    "decoding": ("decoding", "decoding", 70),
    "rl": ("learning", "learning", 70),
    "energy": ("machine", "energy", 40),
    "chain": ("chain", "chain", 110),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seconds", type=float, default=345.0, help="for all parts together")
    parser.add_argument("--each", type=float, default=4.0, help="seconds of one measurement")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dry", action="store_true", help="everything small, on the processor")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.device = "cpu" if args.dry else args.device
    if args.child:
        return speak(args)
    end = time.monotonic() + args.seconds
    results: list[dict] = []
    print("| part | what | value | unit | note |\n|---|---|---|---|---|", flush=True)
    for part in args.parts:
        lines = run(part, args, end - time.monotonic())
        print(*map(markdown, lines), sep="\n", flush=True)
        results += lines
        if args.json:
            args.json.write_text(json.dumps({"device": args.device, "dry": args.dry, "results": results}, indent=1))
    return int(any(line["value"] == "FAILED" or line["note"].startswith("BROKEN") for line in results))


def speak(args: argparse.Namespace) -> int:
    """The one part of a child process, each result a line of JSON as soon as it is there."""
    import torch

    from benchmarks.gpu.measure import Place

    module, function, _ = PARTS[args.parts[0]]
    if args.dry:
        torch.set_num_threads(1)
    place = Place(torch.device(args.device), args.dry, args.each)
    for result in getattr(importlib.import_module(f"benchmarks.gpu.{module}"), function)(place):
        print(json.dumps(vars(result)), flush=True)
    return 0


def run(part: str, args: argparse.Namespace, left: float) -> list[dict]:
    """The results of one part, its failure the last of them."""
    limit = min(PARTS[part][2], left)
    if limit < 5:
        return [line(part, "not begun", "skipped", "s", f"{max(left, 0):.0f} s are left of --seconds")]
    command = [sys.executable, "-m", "benchmarks.gpu", "--child", "--parts", part]
    command += ["--device", args.device, "--each", str(args.each), *["--dry"] * args.dry]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(
            command, stdout=out, stderr=err, env={**os.environ, "PYTHONPATH": path}, start_new_session=True
        )
        code = wait(child, limit)
        out.seek(0)
        err.seek(0)
        results = [json.loads(text) for text in out.read().splitlines() if text.startswith("{") and text.endswith("}")]
        complaint = " ".join(err.read().split())
    if code:
        why = f"stopped after {limit:.0f} s" if code == -signal.SIGKILL else f"exit {code}: {complaint[-600:]}"
        results.append(line(part, "the part", "FAILED", "", why))
    return [*results, line(part, "time of the part", time.monotonic() - start, "s", "start of its process included")]


def wait(child: subprocess.Popen, limit: float) -> int:
    """The exit code; at the limit, or if this process is interrupted, the child and its own children are killed."""
    try:
        return child.wait(limit)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def line(part: str, what: str, value: float | str, unit: str, note: str) -> dict:
    return {"part": part, "what": what, "value": value, "unit": unit, "note": note}


def markdown(result: dict) -> str:
    value, note = result["value"], result["note"].replace("|", "/")
    text = value if isinstance(value, str) else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return f"| {result['part']} | {result['what']} | {text} | {result['unit']} | {note} |"


if __name__ == "__main__":
    sys.exit(main())
