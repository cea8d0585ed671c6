"""How long the whole CPU recipe takes in an old build and in a new one, stage by stage, the builds in turn.

    python -m benchmarks.recipe OLD_CHECKOUT NEW_CHECKOUT --rounds 2 --threads 2

Each build runs its own recipes/cpu.toml with a part of the steps of every stage, all documents, and a part
of the problems.  A stage is then estimated as its work aside from steps (of an evaluation: times the part
that was left out), and the mean of its steps behind the first two, times those of the recipe.  Rewards are
coins, so that every group teaches something; replies end after LONGEST tokens, about the mean of a trained
policy's.  So the seconds are estimated from measured ones, and the ratio of the builds is what they are for.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

LONGEST = 24
WARMUP = 2
STEPS = {"pretrain": 40, "extend": 4, "sft": 24, "rl": 6, "distill": 30}
POLICY_STEPS = 4
PROBLEMS = 6  # of each family
Seconds = dict[str, float]  # of each stage


def settings(recipe: dict, threads: int) -> list[str]:
    """What the recipe is cut to."""
    changes = [f"threads={threads}", "rl.rewards.random=1.0", "rl.watch_every=1000"]
    for stage in recipe["stages"]:
        name = stage.get("name", stage["kind"])
        if stage["kind"] in STEPS:
            changes.append(f"{name}.steps={STEPS[stage['kind']]}")
        if stage["kind"] in ("rl", "distill", "eval"):
            changes.append(f"{name}.max_new_tokens={LONGEST}")
        if stage["kind"] == "distill":
            changes.append(f"{name}.policy_steps={POLICY_STEPS}")
        if stage["kind"] == "eval":
            changes += [f"{name}.problems={PROBLEMS}"]
            changes += [
                f"{name}.{key}={PROBLEMS * stage[key] // stage['problems']}"
                for key in ("talk", "turns")
                if stage.get(key)
            ]
    return changes


def run(checkout: Path, threads: int, python: str, extra: list[str]) -> Seconds:
    """The seconds of each stage of a whole run, estimated from a short one."""
    path = checkout / "recipes" / "cpu.toml"
    recipe = tomllib.loads(path.read_text("utf-8"))
    env = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "run")
        command = [python, "-m", "nomoat", "run", path.resolve(), "--out", out, "--set"]
        command += [*settings(recipe, threads), *extra]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=scratch)
        if done.returncode:
            raise SystemExit(f"{checkout}: exit {done.returncode}: {done.stderr[-2000:]}")
        events = [
            json.loads(line) for line in (out / "events.jsonl").read_text("utf-8").splitlines()
        ]
    stages = {stage.get("name", stage["kind"]): stage for stage in recipe["stages"]}
    return {
        name: whole(stage, [e for e in events if e.get("stage") == name])
        for name, stage in stages.items()
    }


def whole(stage: dict, events: list[dict]) -> float:
    """Seconds of a stage with all its steps and problems."""
    work = sum(e["seconds"] for e in events if e["kind"] == "work")
    steps = [e["seconds"] for e in events if e["kind"] == "step"]
    if stage["kind"] == "eval":
        return work * stage["problems"] / PROBLEMS
    if not steps:
        return work
    n_writing = POLICY_STEPS if stage["kind"] == "distill" else 0
    n_written = stage.get("policy_steps", 0)
    reading = steps[WARMUP : len(steps) - n_writing]
    work += statistics.mean(reading) * (stage["steps"] - n_written)
    if n_writing:
        work += statistics.mean(steps[1 - n_writing :]) * n_written
    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout")
    parser.add_argument("new", type=Path, help="another")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--python", default=sys.executable, help="the interpreter of both")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="a change of both recipes"
    )
    args = parser.parse_args()
    taken: dict[str, list[Seconds]] = {"old": [], "new": []}
    turn = ["old", "new"]
    for _ in range(args.rounds):
        for side in turn:
            taken[side].append(run(getattr(args, side), args.threads, args.python, args.set))
            print(side, {name: round(s, 1) for name, s in taken[side][-1].items()}, file=sys.stderr)
        turn.reverse()
    print("| stage | old, s | new, s | new over old |\n|---|---|---|---|")
    totals = {side: [sum(seconds.values()) for seconds in runs] for side, runs in taken.items()}
    for name in [*taken["new"][0], "whole"]:
        old, new = (
            statistics.median(
                totals[side] if name == "whole" else [s.get(name, 0.0) for s in taken[side]]
            )
            for side in ("old", "new")
        )
        print(
            f"| {name} | {old:.1f} | {new:.1f} | {new / old:.2f} |"
            if old
            else f"| {name} | 0 | {new:.1f} | |"
        )


if __name__ == "__main__":
    main()
