"""What a claim about reinforcement learning has to be held against, as further stages of the same run."""

from typing import Any

from nomoat.config import ConfigError
from nomoat.model import counts
from nomoat.plan.budget import resolve
from nomoat.report.receipt import receipt_of
from nomoat.run.directory import Run
from nomoat.stages.recipe import Recipe

NAMES = ("format-only", "random-reward", "rejection-sft", "more-pretraining")


def with_controls(run: Run, recipe: Recipe, before: str, after: str) -> dict[str, Any]:
    """The recipe up to `after`, then the same training with another reward, and other uses of the FLOPs that it took.

    format-only and random-reward: `after` again, rewarded for its form alone or by a coin.  rejection-sft: fine-tuning
    of `before` on its own right answers.  more-pretraining: `before` goes on with what pretraining read.  A step costs
    what the log says that one of pretraining did; the answers are estimated by the length of those that RL drew.
    """
    stages = [s.model_dump(by_alias=True) for s in recipe.stages]
    place = stages.index(recipe.stage(after).model_dump(by_alias=True))
    rl = stages[place]
    if rl["kind"] != "rl" or rl["from"] != before:
        raise ConfigError(f"`{after}` is no reinforcement learning from `{before}`; choose --before and --after again")
    pretrain = next((s for s in stages if s["kind"] == "pretrain"), None)
    if pretrain is None:
        raise ConfigError("the recipe has no stage of kind pretrain; the controls need what it read")
    kept = [s for s in stages[:place] if s["kind"] not in ("eval", "export")]
    flops = next(row.flops_executed for row in receipt_of(run).rows if row.stage == after)
    last, drawn = run.curve(pretrain["name"])[-1], run.curve(after)
    length = sum(e["length"] for e in drawn) / len(drawn)
    problems = max(rl["steps"] * rl["prompts"] // 2, 16)
    forward = counts.flops_forward(recipe.shape(recipe.stage(after)), 2 * length, recipe.kernels)
    sampled = problems * rl["group"] * length * forward
    steps = lambda budget: max(round(budget / last["flops_executed"]), 1)
    optim = {**pretrain["optim"], "muon_lr": pretrain["optim"]["muon_lr"] / 5, "adam_lr": pretrain["optim"]["adam_lr"] / 5}
    further = {"kind": "sft", "from": before, "rows": pretrain["rows"], "context": pretrain["context"], "optim": optim,
               "precision": pretrain["precision"]}  # fmt: skip
    again = {key: pretrain[key] for key in ("shares", "text", "text_bytes", "hub", "tasks", "task_documents", "chains")}
    added = [
        {**rl, "name": "format-only", "rewards": {"accuracy": 0.0, "format": 1.0}},
        {**rl, "name": "random-reward", "rewards": {"accuracy": 0.0, "random": 1.0}},
        {"kind": "reject", "name": "right-answers", "from": before, "tasks": rl["tasks"], "problems": problems,
         "samples": rl["group"], "keep": 4, "max_new_tokens": rl["max_new_tokens"], "think": rl["think"]},
        {**further, "name": "rejection-sft", "shares": {"samples": 1.0}, "samples": ["right-answers"],
         "steps": steps(max(flops - sampled, flops / 4))},
        {**further, **again, "name": "more-pretraining", "steps": steps(flops)},
    ]  # fmt: skip
    return resolve({**recipe.table, "budget": None, "stages": [*kept, rl, *added]}).table
