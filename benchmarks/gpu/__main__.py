"""One CUDA card in a few minutes: does it do the same as a processor, and how fast.

    python -m benchmarks.gpu --json gpu.json
    python -m benchmarks.gpu --parts laws losses
    python -m benchmarks.gpu --dry

Every part runs in a process of its own, with a time limit; what a part said before it failed is kept, its
failure is a line of the table, and the next part follows.  Exit code 1: a law is broken or a part failed.
`--dry` runs everything on the processor, small, to see that it runs at all; its figures mean nothing.
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
    "kernels": ("kernels", "kernels", 120),
    "training": ("training", "training", 200),
    "decoding": ("decoding", "decoding", 120),
    "losses": ("losses", "losses", 70),
    "rl": ("learning", "learning", 70),
    "energy": ("machine", "energy", 40),
    "chain": ("chain", "chain", 110),
}
DRY = 5  # times longer may a busy processor take


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = list(PARTS)
    parser.add_argument(
        "--parts", nargs="+", default=known, choices=known, metavar="PART", help=", ".join(known)
    )
    parser.add_argument("--seconds", type=float, default=700.0, help="for all parts together")
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
            found = {"device": args.device, "dry": args.dry, "results": results}
            args.json.write_text(json.dumps(found, indent=1))
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
    limit = min(PARTS[part][2], left) * (DRY if args.dry else 1)
    if limit < 5:
        return [line(part, "not begun", "skipped", "s", f"{max(left, 0):.0f} s are left of --seconds")]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        out, err = Path(scratch, "out"), Path(scratch, "err")
        with open(out, "w") as stdout, open(err, "w") as stderr:
            env = {**os.environ, "PYTHONPATH": python_path()}
            code = wait(
                subprocess.Popen(
                    command(part, args), stdout=stdout, stderr=stderr, env=env, start_new_session=True
                ),
                limit,
            )
        results = [
            json.loads(text)
            for text in out.read_text().splitlines()
            if text.startswith("{") and text.endswith("}")
        ]
        complaint = " ".join(err.read_text().split())[-600:]
    if code == -signal.SIGKILL:
        results.append(line(part, "the part", "FAILED", "", f"stopped after {limit:.0f} s"))
    elif code:
        results.append(line(part, "the part", "FAILED", "", f"exit {code}: {complaint}"))
    seconds = time.monotonic() - start
    return [*results, line(part, "time of the part", seconds, "s", "start of its process included")]


def command(part: str, args: argparse.Namespace) -> list[str]:
    child = [sys.executable, "-m", "benchmarks.gpu", "--child", "--parts", part]
    child += ["--device", args.device, "--each", str(args.each)]
    return [*child, "--dry"] if args.dry else child


def python_path() -> str:
    given = os.environ.get("PYTHONPATH")
    return f"{ROOT}{os.pathsep}{given}" if given else str(ROOT)


def wait(child: subprocess.Popen, limit: float) -> int:
    """The exit code.  At the limit, or where this process is interrupted, its whole session is killed."""
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
