"""What the sandbox costs: `sandbox.judge` under each backend against the same program in a plain subprocess.

    python -m benchmarks.sandbox --rounds 50

The plain side is `python -I -S -c` with the same interpreter: no walls, one print.  Sides take turns; the
table gives medians of milliseconds from start to verdict and of what the walls add in a round.
"""

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import partial

from nomoat import sandbox
from nomoat.config import UserError
from nomoat.sandbox import walls

PROGRAM = "def f(x): return x + 1"
PLAIN = "plain subprocess"


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
    taken = measure(sides(), args.rounds)
    print(f"{args.rounds} rounds, {len(taken)} sides in turn\n")
    print("| side | median ms | lowest | highest | median added ms |\n|---|---|---|---|---|")
    for side, times in taken.items():
        print(markdown(side, times, taken[PLAIN]))


def markdown(side: str, times: list[float], plain_times: list[float]) -> str:
    middle = statistics.median(times)
    added = statistics.median(a - b for a, b in zip(times, plain_times))
    return f"| {side} | {middle:.1f} | {min(times):.1f} | {max(times):.1f} | {added:+.1f} |"


def sides() -> dict[str, Callable[[], None]]:
    """The plain subprocess and every backend that works here; the others are printed with their reason."""
    found: dict[str, Callable[[], None]] = {PLAIN: plain}
    for name in sandbox.BACKENDS:
        try:
            found[sandbox.probe(name)] = partial(jailed, name)
        except UserError as error:
            print(f"{name}: {error}")
    return found


def measure(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every side in every round, behind three rounds that don't count."""
    taken: dict[str, list[float]] = {side: [] for side in steps}
    for number in range(-3, rounds):
        for side, step in steps.items():
            took = milliseconds(step)
            if number >= 0:
                taken[side].append(took)
    return taken


if __name__ == "__main__":
    main()
