"""What a checkpoint costs a training that goes on beside it, against one that waits until it is durable.

    python -m benchmarks.saving
    torchrun --nproc-per-node 2 -m benchmarks.saving --rounds 5

The steps are those of `recipes/cpu.toml`'s pretraining (pieces.py), no data loader.  In each round come
N steps alone, N steps with a save that begins at the first, and N steps behind a save that is waited for.
What a save costs is the time of its N steps less that of those alone; the share is of a minute, as if there
was one save in each.

Exit code 1: the median save beside the steps cost more than the target.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from benchmarks.pieces import optimised_step
from nomoat.parallel import mesh
from nomoat.parallel.process import settle_memory
from nomoat.train.saver import Saver

TARGET = 0.02  # of a minute
COLUMNS = ("save", "seconds, median", "lowest", "highest", "of a minute")


def seconds(work: Callable[[], None], ranks: mesh.Mesh) -> float:
    ranks.barrier()
    start = time.perf_counter()
    work()
    ranks.barrier()
    return time.perf_counter() - start


def measure(
    ranks: mesh.Mesh, n_steps: int, n_rounds: int, directory: Path
) -> tuple[dict[str, list[float]], int]:
    """Seconds that each way of saving cost, and the bytes of a checkpoint."""
    step, optimizer = optimised_step(ranks)
    failures = []
    saver = Saver(directory, ranks, lambda at, error: failures.append(error))
    costs = {"beside the steps": [], "of it blocked": [], "waited for": []}

    def steps() -> None:
        for _ in range(n_steps):
            step()

    def begin(at: int) -> None:
        saver.begin(at, {"optimizer": optimizer.tensors()}, {})

    def waited(at: int) -> None:
        begin(at)
        saver.wait()
        steps()

    def beside(at: int) -> None:
        start = time.perf_counter()
        begin(at)
        costs["of it blocked"].append(time.perf_counter() - start)
        steps()
        saver.wait()

    seconds(steps, ranks)
    for n in range(n_rounds):
        alone = seconds(steps, ranks)
        costs["beside the steps"].append(seconds(lambda n=n: beside(2 * n + 1), ranks) - alone)
        costs["waited for"].append(seconds(lambda n=n: waited(2 * n + 2), ranks) - alone)
    saver.close()
    if failures:
        raise failures[0]
    n_bytes = sum(file.stat().st_size for file in directory.glob(f"step_{2 * n_rounds:06d}/*"))
    return costs, n_bytes


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=10, help="in each part of a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", help="a directory on the disk to be measured (default: a temporary one)")
    given = parser.parse_args()
    settle_memory()
    torch.set_num_threads(1)
    ranks = mesh.start()
    with tempfile.TemporaryDirectory(dir=given.out) as place:
        directory = Path(ranks.broadcast(place)) / "checkpoints"
        costs, n_bytes = measure(ranks, given.steps, given.rounds, directory)
        ranks.barrier()
    share = median(costs["beside the steps"]) / 60
    if ranks.rank == 0:
        print(
            f"{n_bytes:,} bytes; ranks: {ranks.world}, rounds: {given.rounds}, steps: {given.steps}"
        )
        print(" | ".join(COLUMNS))
        for name, values in costs.items():
            cells = (
                f"{median(values):.3f}",
                f"{min(values):.3f}",
                f"{max(values):.3f}",
                f"{median(values) / 60:.2%}",
            )
            print(" | ".join((name, *cells)))
    mesh.stop()
    return int(share > TARGET)


if __name__ == "__main__":
    raise SystemExit(main())
