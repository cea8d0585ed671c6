"""An old build against a new one: training, sampling and an RL update of the same recipe, the builds in turn.

    python -m benchmarks.builds OLD_CHECKOUT NEW_CHECKOUT --rounds 3 --threads 2

Each build runs its own recipes/cpu.toml, cut to a tokenizer, some steps of pretraining (bf16) and some of RL
with 22 x 16 rollouts each, and is asked nothing but its log: tokens_per_second, sample_seconds,
update_seconds.  So nothing has to be the same inside but the recipe and the log.  The model is as good as
untrained; rewards are coins, so that every group teaches something, and both builds do the same work as long
as they sample the same ids.  A run gives medians over its steps, the first ones left out; a ratio is taken
within each round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

STAGES = ("tokenizer", "pretrain", "rl")
DROPPED = ("short", "weights")  # keys of the pretraining that change its shape on the way
MEASURES = {  # name -> stage, field of a step, whether more is better
    "training, tokens/s": ("pretrain", "tokens_per_second", True),
    "sampling and judging, s a step": ("rl", "sample_seconds", False),
    "RL update, s a step": ("rl", "update_seconds", False),
}


@dataclass(frozen=True)
class Size:
    """How much of the recipe is run; the first `warmup` steps of a stage are left out."""

    threads: int
    steps: int
    rl_steps: int
    documents: int
    prompts: int = 22
    warmup: int = 2
    changes: tuple[str, ...] = ()  # of both recipes, such as pretrain.precision=fp32

    def settings(self) -> list[str]:
        return [
            f"threads={self.threads}",
            f"pretrain.steps={self.steps}",
            f"pretrain.task_documents={self.documents}",
            "tokenizer.text_bytes=300000",
            "pretrain.text_bytes=300000",
            f"rl.steps={self.rl_steps}",
            f"rl.prompts={self.prompts}",
            "rl.watch_every=1000",
            "rl.rewards.random=1.0",
            *self.changes,
        ]


@dataclass(frozen=True)
class Row:
    """One measure: both builds' medians over the rounds, and how many times better the new one is."""

    what: str
    old: float
    new: float
    times_better: float
    lowest: float
    highest: float
    rounds: int

    def markdown(self) -> str:
        span = f"{self.times_better:.3f} ({self.lowest:.3f} to {self.highest:.3f}), {self.rounds} rounds"
        return f"| {self.what} | {self.old:.4g} | {self.new:.4g} | {span} |"


def cut(recipe: str) -> str:
    """The recipe's text with its head and the measured stages, as they stand but for the keys in DROPPED."""
    head, *stages = recipe.split("[[stages]]")
    kept = [text for text in stages if any(f'kind = "{kind}"' in text for kind in STAGES)]
    lines = "[[stages]]".join([head, *kept]).splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(DROPPED))


def run(checkout: Path, size: Size, python: str) -> dict[str, float]:
    """The medians of one run of this build."""
    published = checkout / "recipes" / "cpu.toml"
    recipe = cut(published.read_text("utf-8"))
    env = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    env["OMP_NUM_THREADS"] = str(size.threads)
    with tempfile.TemporaryDirectory() as scratch:
        path, out = Path(scratch, "recipe.toml"), Path(scratch, "run")
        path.write_text(recipe, "utf-8")
        command = [python, "-m", "nomoat", "run", path, "--out", out]
        for setting in size.settings():
            command += ["--set", setting]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=scratch)
        if done.returncode:
            raise SystemExit(f"{checkout}: exit {done.returncode}: {done.stderr[-2000:]}")
        events = (out / "events.jsonl").read_text("utf-8").splitlines()
    return medians([json.loads(line) for line in events], size.warmup)


def medians(events: list[dict], warmup: int) -> dict[str, float]:
    """Of each measure over the steps of its stage behind the first `warmup`."""
    out = {}
    for name, (stage, field, _) in MEASURES.items():
        steps = [event for event in events if event["kind"] == "step" and event["stage"] == stage]
        out[name] = statistics.median(step[field] for step in steps[warmup:])
    return out


def compare(name: str, old: list[float], new: list[float], more_is_better: bool) -> Row:
    """One measure, from its medians in every round."""
    better, worse = (new, old) if more_is_better else (old, new)
    ratios = [a / b for a, b in zip(better, worse)]
    return Row(
        name,
        statistics.median(old),
        statistics.median(new),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        len(ratios),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout")
    parser.add_argument("new", type=Path, help="another")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60, help="of pretraining in a run")
    parser.add_argument("--rl-steps", type=int, default=8, help="of reinforcement learning in a run")
    parser.add_argument("--documents", type=int, default=2000, help="worked tasks to train on")
    parser.add_argument("--prompts", type=int, default=22, help="of an RL step, 16 answers to each")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of both")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="a change of both recipes")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = measure(args)
    if args.json:
        sides = {"old": str(args.old), "new": str(args.new), "threads": args.threads}
        print(json.dumps({**sides, "rows": [asdict(row) for row in rows]}))
        return
    print(f"{args.old} against {args.new}, {args.threads} threads, recipes/cpu.toml\n")
    print("| what | old | new | times better, median (lowest to highest) |\n|---|---|---|---|")
    for row in rows:
        print(row.markdown())


def measure(args: argparse.Namespace) -> list[Row]:
    """Both builds in turn; the one that begins changes from round to round."""
    size = Size(args.threads, args.steps, args.rl_steps, args.documents, args.prompts, changes=tuple(args.set))
    old: list[dict[str, float]] = []
    new: list[dict[str, float]] = []
    turn = [(old, args.old), (new, args.new)]
    for _ in range(args.rounds):
        for side, checkout in turn:
            side.append(run(checkout, size, args.python))
        turn.reverse()
    rows = []
    for name, (_, _, more_is_better) in MEASURES.items():
        before = [taken[name] for taken in old]
        after = [taken[name] for taken in new]
        rows.append(compare(name, before, after, more_is_better))
    return rows


if __name__ == "__main__":
    main()
