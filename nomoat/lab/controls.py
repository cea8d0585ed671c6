"""What a claim about reinforcement learning has to be held against, as further stages of the same run."""


from nomoat.config import ConfigError
from nomoat.lab.series import Json
from nomoat.model import counts
from nomoat.plan.budget import resolve
from nomoat.report.receipt import receipt_of
from nomoat.run.directory import Run
from nomoat.stages.recipe import Recipe
from nomoat.stats import mean

NAMES = ("format-only", "random-reward", "rejection-sft", "more-pretraining")
READ = ("shares", "text", "text_bytes", "hub", "tasks", "task_documents", "chains")  # what pretraining reads
FEWEST_PROBLEMS = 16
LOWER_RATES = 5  # for weights that are trained already


def with_controls(run: Run, recipe: Recipe, before: str, after: str) -> Json:
    """The recipe up to `after`, then the same training with another reward, and other uses of the FLOPs that
    it took.

    format-only and random-reward: `after` again, rewarded for its form alone or by a coin.  rejection-sft:
    fine-tuning of `before` on its own right answers.  more-pretraining: `before` goes on with what
    pretraining read.  A step costs what the log says that one of pretraining did; the answers are estimated
    by the length of those that RL drew.
    """
    rl = recipe.stage(after)
    if rl.kind != "rl" or rl.source != before:
        raise ConfigError(
            f"`{after}` is no reinforcement learning from `{before}`; choose --before and --after again"
        )
    earlier = recipe.stages[: recipe.stages.index(rl)]
    pretrain = next((stage for stage in recipe.stages if stage.kind == "pretrain"), None)
    if pretrain is None:
        raise ConfigError("the recipe has no stage of kind pretrain; the controls need what it read")
    kept = [stage.model_dump(by_alias=True) for stage in earlier if stage.kind not in ("eval", "export")]
    n_problems = max(rl.steps * rl.prompts // 2, FEWEST_PROBLEMS)
    flops = next(row.flops_executed for row in receipt_of(run).rows if row.stage == after)
    step_flops = run.curve(pretrain.name)[-1]["flops_executed"]
    sampled = n_problems * rl.group * answer_flops(run, recipe, after)
    trained, rl = pretrain.model_dump(by_alias=True), rl.model_dump(by_alias=True)
    further = {**further_training(trained), "from": before}
    added = [
        {**rl, "name": "format-only", "rewards": {"accuracy": 0.0, "format": 1.0}},
        {**rl, "name": "random-reward", "rewards": {"accuracy": 0.0, "random": 1.0}},
        right_answers(rl, n_problems),
        {
            **further,
            "name": "rejection-sft",
            "shares": {"samples": 1.0},
            "samples": ["right-answers"],
            "steps": n_steps(max(flops - sampled, flops / 4), step_flops),
        },
        {
            **further,
            **{key: trained[key] for key in READ},
            "name": "more-pretraining",
            "steps": n_steps(flops, step_flops),
        },
    ]
    return resolve({**recipe.table, "budget": None, "stages": [*kept, rl, *added]}).table


def n_steps(flops: float, step_flops: float) -> int:
    return max(round(flops / step_flops), 1)


def answer_flops(run: Run, recipe: Recipe, after: str) -> float:
    """To sample one answer, as long as those that RL drew, behind a prompt of that length."""
    length = mean(event["length"] for event in run.curve(after))
    return length * counts.flops_forward(recipe.shape(recipe.stage(after)), 2 * length, recipe.kernels)


def further_training(pretrain: Json) -> Json:
    optim = dict(pretrain["optim"])
    for rate in ("muon_lr", "adam_lr"):
        optim[rate] /= LOWER_RATES
    same = {key: pretrain[key] for key in ("rows", "context", "precision")}
    return {"kind": "sft", "optim": optim, **same}


def right_answers(rl: Json, n_problems: int) -> Json:
    return {
        "kind": "reject",
        "name": "right-answers",
        "from": rl["from"],
        "tasks": rl["tasks"],
        "problems": n_problems,
        "samples": rl["group"],
        "keep": 4,
        "max_new_tokens": rl["max_new_tokens"],
        "think": rl["think"],
    }
