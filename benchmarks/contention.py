"""What is left of the speed of a run beside other work, against its fair share of the processor.

    python -m benchmarks.contention
    python -m benchmarks.contention --busy 1 5 --stages train --settings "2 threads" "2 threads, spinning"

Three pieces of `recipes/cpu.toml`'s work: `train` is a step of pretraining (8 rows of 256 tokens, bf16 where
the processor multiplies it, else float32),
`sample` is `engine.sample` for the rollouts of a step of RL (float32), `rl` is that step whole: rollouts,
rewards, packing, policy gradient, optimiser.  Each is done by one thread, by two, and by two ranks of one
thread.  Beside them run N processes that only count; nothing else should.

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
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

STAGES = ("train", "sample", "rl")
# (threads of a rank, ranks, how threads wait)
SETTINGS = {
    "1 thread": (1, 1, "polite"), "2 threads": (2, 1, "polite"), "2 ranks": (1, 2, "polite"),
    "2 threads, spinning": (2, 1, "spinning"), "2 threads, passive": (2, 1, "passive"),
}  # fmt: skip
PROMPTS, GROUP, N_PROMPT, N_NEW = 22, 16, 32, 64
TARGET = 0.5
BUSY = (
    "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"  # it never outlives this benchmark
)


# --- the worker: one rank of one setting, which does what it reads from standard input ---


def work(threads: int, wait: str) -> None:
    """Reads "stage seconds", does the stage's step for so long, answers with steps a second (rank 0)."""
    import torch
    from nomoat.contention import Polite

    from nomoat import mesh
    from nomoat.cli import _keep_freed_memory

    _keep_freed_memory()
    torch.set_num_threads(threads)
    ranks = mesh.start()
    steps = {"train": train_step(ranks), "sample": sample_step(ranks), "rl": rl_step(ranks)}
    for step in steps.values():
        step()
    say = lambda value: print(json.dumps(value), flush=True) if ranks.rank == 0 else None
    say("ready")
    for line in sys.stdin:
        stage, limit = line.split()
        with Polite() if wait == "polite" else nullcontext():
            ranks.barrier()
            start, n = time.perf_counter(), 0
            while not ranks.any(n > 0 and time.perf_counter() - start > float(limit)):
                steps[stage]()
                n += 1
            say(n / (time.perf_counter() - start))
    mesh.stop()


def recipe_model(dtype):
    """The main model of recipes/cpu.toml with live output matrices, and its tokenizer's size."""
    from benchmarks.common import start_weights
    from nomoat.config import read_recipe
    from nomoat.stages.recipe import resolve

    model = start_weights(resolve(read_recipe("recipes/cpu.toml")).model("main"))
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def train_step(ranks) -> Callable[[], None]:
    import torch

    from nomoat.data.packing import Batch
    from nomoat.train.loop import reduce_gradients
    from nomoat.train.objective import ObjectiveConfig, gradient
    from nomoat.train.optim import OptimConfig, Optimizer

    bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    model, rows, T = recipe_model(torch.bfloat16 if bf16 else torch.float32), 8 // ranks.world, 256
    optimizer, generator = (
        Optimizer(model, OptimConfig(muon_lr=1e-3)),
        torch.Generator().manual_seed(ranks.rank),
    )
    doc_BT = (torch.arange(T, dtype=torch.int32) // 64).expand(rows, T)

    def step() -> None:
        ids = torch.randint(8, model.spec.vocab_size, (rows, T + 1), generator=generator)
        found = gradient(model, Batch(ids[:, :-1], ids[:, 1:].contiguous(), doc_BT), ObjectiveConfig(), ranks)
        optimizer.step(1.0, reduce_gradients(ranks, optimizer))
        found.after()

    return step


def sample_step(ranks) -> Callable[[], None]:
    import torch
    from nomoat.infer.engine import sample

    model, generator = recipe_model(torch.float32), torch.Generator().manual_seed(ranks.rank)
    prompts = torch.randint(
        8, model.spec.vocab_size, (PROMPTS // ranks.world, N_PROMPT), generator=generator
    ).tolist()
    seeds = itertools.count()
    return lambda: sample(
        model, prompts, n_per_prompt=GROUP, max_new_tokens=N_NEW, seed=next(seeds), stop_ids=(), pad_id=0
    )  # fmt: skip


def rl_step(ranks) -> Callable[[], None]:
    """As in benchmarks/grpo.py, with the recipe's model and sizes; the reward is a parity, so that every
    group teaches."""
    import torch

    from benchmarks.grpo import LEVEL, TASK, parity, tokenizer_of
    from nomoat.rl import grpo, reward, rollout, variants
    from nomoat.tasks import base
    from nomoat.tokenizer import chat
    from nomoat.train.loop import reduce_gradients
    from nomoat.train.optim import OptimConfig, Optimizer

    stream = base.problems(TASK, LEVEL, split="train", seed=0)
    problems = [next(stream) for _ in range(200)]
    tokenizer = tokenizer_of(problems)
    model = recipe_model(torch.float32)
    optimizer = Optimizer(model, OptimConfig(matrices="adamw", adam_lr=1e-5))
    mine, numbers = PROMPTS // ranks.world, itertools.count(ranks.rank, ranks.world)

    def step() -> None:
        number = next(numbers)
        first = number * mine % (len(problems) - mine)
        entries = [(TASK, LEVEL, problem) for problem in problems[first : first + mine]]
        groups = rollout.sample_groups(
            model, tokenizer, entries, group=GROUP, max_new_tokens=N_NEW, seed=number, stop_ids=()
        )  # fmt: skip
        scores = reward.scores(groups, tokenizer)
        rewards = [
            [s.strict + parity(rollout.text_of(r, tokenizer)) for r, s in zip(*pair)]
            for pair in zip(groups, scores)
        ]
        weights = variants.constant(rewards, mine * GROUP, N_NEW)
        grpo.policy_gradient(model, grpo.pack(groups, variants.centred(rewards), weights), chat.PAD)
        optimizer.step(1.0, reduce_gradients(ranks, optimizer))

    return step


# --- the parent: starts workers and busy processes, takes turns, judges ---


class Worker:
    """The ranks of one setting, idle until they are asked."""

    def __init__(self, threads: int, world: int, wait: str, port: int):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
        command = [sys.executable, "-m", "benchmarks.contention", "--work", str(threads), wait]
        policy = {"OMP_WAIT_POLICY": "passive"} if wait == "passive" else {}
        self.ranks = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, **policy, **place, "RANK": str(r), "LOCAL_RANK": str(r)},
            )
            for r in range(world)
        ]  # fmt: skip

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
            rank.wait()


@contextmanager
def busy(n: int) -> Iterator[list[subprocess.Popen]]:
    """n processes that only count, killed at the end whatever happens."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n)]
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


def beside(worker: Worker, stage: str, n: int, seconds: float) -> tuple[float, float]:
    """(steps a second beside n busy processes, processors that all of them had together)."""
    with busy(n) as others:
        time.sleep(0.2)  # until they count
        everyone = others + worker.ranks
        before, start = processor_seconds(everyone), time.perf_counter()
        rate = worker.rate(stage, seconds)
        return rate, (processor_seconds(everyone) - before) / (time.perf_counter() - start)


def measure(workers: dict[str, Worker], stage: str, args: argparse.Namespace) -> tuple[dict, dict]:
    """({setting: speeds alone}, {(setting, busy): speeds and processors beside them}), in turns."""
    alone, others = {}, {}
    for _ in range(args.rounds):
        for name, worker in workers.items():
            alone.setdefault(name, []).append(worker.rate(stage, args.seconds))
        for n, (name, worker) in itertools.product(args.busy, workers.items()):
            others.setdefault((name, n), []).append(beside(worker, stage, n, 2 * args.seconds))
    return alone, others


def row(
    stage: str, name: str, k: int, n: int, alone: list[float], others: list[tuple[float, float]]
) -> tuple[str, float]:
    """A line of the table, and the median of `kept`."""
    share = [min(1, got / (n + k)) / min(1, (os.cpu_count() or 1) / k) for _, got in others]
    kept = [rate / max(alone) / fair for (rate, _), fair in zip(others, share)]
    middle, beside_them = statistics.median(kept), statistics.median(rate for rate, _ in others)
    span = f"{middle:.2f} ({min(kept):.2f} to {max(kept):.2f})"
    speeds = f"{max(alone):.3g}, median {statistics.median(alone):.3g} | {n} | {beside_them:.3g}"
    return f"| {stage} | {name} | {speeds} | {statistics.median(share):.2f} | {span} |", middle


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busy", type=int, nargs="+", default=[2, 5], help="numbers of busy processes")
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS)[:3], choices=SETTINGS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="of a measurement alone; twice as long beside others"
    )
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(int(args.work[0]), args.work[1])
        return 0
    missed = 0
    with ExitStack() as stack:
        workers, k = {}, {}
        for name in args.settings:
            threads, world, wait = SETTINGS[name]
            workers[name], k[name] = Worker(threads, world, wait, 29600 + len(workers)), threads * world
            stack.callback(workers[name].close)
        for worker in workers.values():
            worker.answer()
        print(
            "| stage | setting | steps/s alone, best | busy | steps/s | fair share | kept |\n"
            + "|---" * 7
            + "|"
        )
        for stage in args.stages:
            alone, others = measure(workers, stage, args)
            for name, n in itertools.product(workers, args.busy):
                line, kept = row(stage, name, k[name], n, alone[name], others[name, n])
                print(line, flush=True)
                missed += kept < TARGET and "polite" in SETTINGS[name]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
