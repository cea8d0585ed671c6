"""A recipe on several ranks is the recipe on one: every stage with weights, its losses and its rollouts."""

from collections import Counter
from collections.abc import Callable

import pytest
import ranks

from nomoat.config import read_recipe
from nomoat.data import shards
from nomoat.evals.problems import Candidate
from nomoat.run.directory import Run
from nomoat.run.stop import Stop
from nomoat.stages.pipeline import run_stages
from nomoat.stages.recipe import resolve
from nomoat.tokenizer import bpe
from nomoat.weights import directory

SHORT = (
    "pretrain.steps=8", "pretrain.first_rows=3", "pretrain.rows=7", "pretrain.ramp_steps=5",
    "extend.steps=2", "extend.rows=5", "sft.steps=6", "sft.rows=5", "rl.steps=3", "rl.prompts=3",
    "distill.steps=4", "distill.policy_steps=2", "distill.rows=3", "distill.prompts=3",
    "distill.inherit=false", "eval.problems=1", "eval.talk=0", "eval.turns=0",
)  # fmt: skip
LOSS = 1e-4  # relative, where sums come in another order
AXES = ({"replicate": 2}, {"shard": 2}, {"expert": 2}, {"pipeline": 2})
ALONE = {"train": bpe, "write": shards, "save": directory, "answers": Candidate}  # what one rank does


def chain(mesh, root, changes):
    """The loss of each step, the rollouts, and how often this rank did what one does."""
    done: Counter[str] = Counter()
    for name, place in ALONE.items():
        setattr(place, name, counted(name, getattr(place, name), done))
    axes = mesh.axes.model_dump(exclude={"silence_seconds"})
    recipe = resolve(read_recipe("smoke", [*SHORT, *changes])).model_copy(update={"mesh": mesh.axes})
    out = root / "-".join(f"{axis}{n}" for axis, n in axes.items())
    run = Run.create(out, recipe.table) if mesh.rank == 0 else None
    mesh.barrier()
    run = run or Run.open(out, write=True)
    with Stop() as stop:
        if mesh.rank == 0:
            with run.locked():
                run_stages(run, recipe, stop)
        else:
            run_stages(run, recipe, stop)
    losses = {(event["stage"], event["step"]): event["loss"] for event in run.events("step")}
    return losses, (out / "rl" / "rollouts.jsonl").read_text().splitlines(), done


def counted(name: str, work: Callable, done: Counter) -> Callable:
    def call(*args, **how):
        done[name] += 1
        return work(*args, **how)

    return call


@pytest.mark.check
def test_all_stages_on_two_ranks_are_those_of_one(tmp_path):
    """Batches that two does not divide, ramps, passes of a few rows; what one rank can do alone, it does."""
    [(losses, drawn, _)] = ranks.run(chain, 1, tmp_path, ["extend.micro_rows=2"], seconds=300)
    assert {stage for stage, _ in losses} == {"pretrain", "extend", "sft", "rl", "distill"}
    assert drawn
    for axes in AXES:
        changes = [f"extend.micro_rows={1 if 'pipeline' in axes else 2}"]
        (found, again, led), (_, _, followed) = ranks.run(chain, 2, tmp_path, changes, seconds=300, **axes)
        assert set(led) == set(ALONE)
        assert followed == {}
        assert found == pytest.approx(losses, rel=LOSS, abs=LOSS)
        assert len(again) == len(drawn)
        assert sum(map(str.__eq__, again, drawn)) >= 0.9 * len(drawn)  # a token may turn on rounding
