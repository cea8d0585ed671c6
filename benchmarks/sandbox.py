"""What the sandbox costs: `sandbox.judge` under each backend against the same program in a plain subprocess.

    python -m benchmarks.sandbox --rounds 50

The plain side is `python -I -S -c` with the same interpreter: no walls, one print.  Sides take turns; the table gives
medians of milliseconds from start to verdict (`ours`: the sandbox) and the medians of what the walls add in a round.
"""

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable

from nomoat import sandbox
from nomoat.config import UserError
from nomoat.sandbox import walls

PROGRAM = "def f(x): return x + 1"


def plain() -> None:
    code = f"{PROGRAM}\nprint(f(1), f(2))"
    done = subprocess.run([walls.readable()[0], "-I", "-S", "-c", code], capture_output=True, check=True)
    assert done.stdout == b"2 3\n"


def jailed(name: str) -> None:
    assert sandbox.confined(PROGRAM, [1, 2], sandbox.Limits(), name).outputs == [2, 3]


def milliseconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    args = parser.parse_args()
    sides: dict[str, Callable[[], None]] = {"plain subprocess": plain}
    for name in sandbox.BACKENDS:
        try:
            sides[sandbox.probe(name)] = lambda name=name: jailed(name)
        except UserError as error:
            print(f"{name}: {error}")
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(-3, args.rounds):
        for side, step in sides.items():
            took = milliseconds(step)
            if number >= 0:
                seconds[side].append(took)
    print(f"{args.rounds} rounds, {len(sides)} sides in turn\n")
    print("| side | median ms | lowest | highest | median added ms |\n|---|---|---|---|---|")
    for side, found in seconds.items():
        added = statistics.median(a - b for a, b in zip(found, seconds["plain subprocess"]))
        print(f"| {side} | {statistics.median(found):.1f} | {min(found):.1f} | {max(found):.1f} | {added:+.1f} |")


if __name__ == "__main__":
    main()
