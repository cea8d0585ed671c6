"""What is left of the speed of a run beside other work, against its fair share of the processor.

    python -m benchmarks.contention
    python -m benchmarks.contention --busy 1 5 --stages train --settings "2 threads" "2 threads, spinning"

Three pieces of `recipes/cpu.toml`'s work (`pieces.py`) are each done by one thread, by two, and by two ranks
of one thread.  Beside them run N processes that only count; nothing else should.

k threads beside N busy processes that have G processors' time among them are N + k that want to run.  Where
all get alike, k threads get min(1, G / (N + k)) of a processor each, and min(1, C / k) alone on C
processors.  The quotient is the **fair share**: the part that is left, at best, of the speed *measured
alone with the same setting*.  G is measured, by the processor time that the workers and the busy processes
got: C on a machine that does nothing else, less where others run too.  `kept` is the speed beside the
others over the best speed alone, over the fair share: 1 is fair, and the target is 0.5.

Exit code 1: some setting kept less than the target.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks.pieces import PIECES
from nomoat.parallel import mesh
from nomoat.parallel.contention import Polite
from nomoat.parallel.process import settle_memory

TARGET = 0.5
PORT = 29600
COUNT = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"  # never outlives its parent
COLUMNS = ("stage", "setting", "steps/s alone, best", "busy", "steps/s", "fair share", "kept")


@dataclass(frozen=True)
class Setting:
    """How a piece of work is done."""

    threads: int  # of a rank
    ranks: int = 1
    wait: str = "polite"  # how threads wait for each other

    @property
    def all_threads(self) -> int:
        return self.threads * self.ranks


SETTINGS = {
    "1 thread": Setting(1),
    "2 threads": Setting(2),
    "2 ranks": Setting(1, ranks=2),
    "2 threads, spinning": Setting(2, wait="spinning"),
    "2 threads, passive": Setting(2, wait="passive"),
}


# --- the worker: one rank of one setting, which does what it reads from standard input ---


def work(threads: int, wait: str, stages: Sequence[str]) -> None:
    """Reads "stage seconds", does the stage's step for so long, answers with steps a second (rank 0)."""
    settle_memory()
    torch.set_num_threads(threads)
    ranks = mesh.start()
    steps = {stage: PIECES[stage](ranks) for stage in stages}
    for step in steps.values():
        step()
    answer(ranks, "ready")
    for line in sys.stdin:
        stage, limit = line.split()
        with Polite() if wait == "polite" else nullcontext():
            ranks.barrier()
            start, n = time.perf_counter(), 0
            while not ranks.any(n > 0 and time.perf_counter() - start > float(limit)):
                steps[stage]()
                n += 1
            answer(ranks, n / (time.perf_counter() - start))
    mesh.stop()


def answer(ranks: mesh.Mesh, value: float | str) -> None:
    if ranks.rank == 0:
        print(json.dumps(value), flush=True)


# --- the parent: starts workers and busy processes, takes turns, judges ---


class Worker:
    """The ranks of one setting, idle until they are asked."""

    def __init__(self, setting: Setting, stages: Sequence[str], port: int) -> None:
        command = [sys.executable, "-m", "benchmarks.contention"]
        command += ["--work", str(setting.threads), setting.wait, *stages]
        env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        env["WORLD_SIZE"] = str(setting.ranks)
        env.pop("OMP_WAIT_POLICY", None)
        if setting.wait == "passive":
            env["OMP_WAIT_POLICY"] = "passive"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.ranks = []
        for rank in range(setting.ranks):
            place = {**env, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            self.ranks.append(subprocess.Popen(command, env=place, **pipes))

    def answer(self) -> float | str:
        line = self.ranks[0].stdout.readline()
        if not line:
            raise SystemExit("a worker died")
        return json.loads(line)

    def rate(self, stage: str, seconds: float) -> float:
        """Steps a second, over so many seconds or one step."""
        for rank in self.ranks:
            rank.stdin.write(f"{stage} {seconds}\n")
            rank.stdin.flush()
        return self.answer()

    def close(self) -> None:
        for rank in self.ranks:
            rank.kill()
        for rank in self.ranks:
            rank.wait()


@contextmanager
def busy(n: int) -> Iterator[list[subprocess.Popen]]:
    """n processes that only count, killed at the end whatever happens."""
    processes = [subprocess.Popen([sys.executable, "-c", COUNT]) for _ in range(n)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def processor_seconds(processes: list[subprocess.Popen]) -> float:
    """What they have used so far."""
    fields = (Path(f"/proc/{p.pid}/stat").read_text().rpartition(")")[2].split() for p in processes)
    return sum(int(f[11]) + int(f[12]) for f in fields) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Beside:
    """A measurement beside busy processes: steps a second, and the processors that all had together."""

    rate: float
    processors: float

    def fair_share(self, k: int, n: int) -> float:
        """Of k threads beside n busy processes."""
        return min(1, self.processors / (n + k)) / min(1, (os.cpu_count() or 1) / k)


def beside(worker: Worker, stage: str, n: int, seconds: float) -> Beside:
    with busy(n) as others:
        time.sleep(0.2)  # until they count
        everyone = others + worker.ranks
        before, start = processor_seconds(everyone), time.perf_counter()
        rate = worker.rate(stage, seconds)
        return Beside(rate, (processor_seconds(everyone) - before) / (time.perf_counter() - start))


def measure(workers: dict[str, Worker], stage: str, args: argparse.Namespace) -> Iterator[float]:
    """Prints a row for each setting and number of busy processes; gives what the polite ones kept."""
    alone = {name: [] for name in workers}
    pairs = itertools.product(workers, args.busy)
    others = {pair: [] for pair in pairs}
    for _ in range(args.rounds):
        for name, worker in workers.items():
            alone[name].append(worker.rate(stage, args.seconds))
        for (name, n), found in others.items():
            measured = beside(workers[name], stage, n, 2 * args.seconds)
            found.append(measured)
    for (name, n), found in others.items():
        kept = row(stage, name, n, alone[name], found)
        setting = SETTINGS[name]
        if setting.wait == "polite":
            yield kept


def row(stage: str, name: str, n: int, alone: list[float], others: list[Beside]) -> float:
    """Prints a row; gives the median of `kept`."""
    shares = [one.fair_share(SETTINGS[name].all_threads, n) for one in others]
    kept = [one.rate / max(alone) / share for one, share in zip(others, shares)]
    cells = [
        stage,
        name,
        f"{max(alone):.3g}, median {median(alone):.3g}",
        str(n),
        f"{median(one.rate for one in others):.3g}",
        f"{median(shares):.2f}",
        f"{median(kept):.2f} ({min(kept):.2f} to {max(kept):.2f})",
    ]
    print(line(cells), flush=True)
    return median(kept)


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busy", type=int, nargs="+", default=[2, 5], help="numbers of busy processes")
    parser.add_argument("--stages", nargs="+", default=list(PIECES), choices=PIECES)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS)[:3], choices=SETTINGS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="alone; twice as long beside others")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        threads, wait, *stages = args.work
        work(int(threads), wait, stages)
        return 0
    with ExitStack() as stack:
        workers = {}
        for number, name in enumerate(args.settings):
            workers[name] = Worker(SETTINGS[name], args.stages, PORT + number)
            stack.callback(workers[name].close)
        for worker in workers.values():
            worker.answer()
        print(line(COLUMNS), line(["---"] * len(COLUMNS)), sep="\n")
        kept = [share for stage in args.stages for share in measure(workers, stage, args)]
    return 1 if min(kept, default=TARGET) < TARGET else 0


if __name__ == "__main__":
    sys.exit(main())
