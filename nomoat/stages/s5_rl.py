"""Stage 5: reinforcement learning on decidable tasks, rewarded by programs alone."""

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nomoat.mesh import Mesh
from nomoat.model.transformer import Transformer
from nomoat.rl import grpo, reward
from nomoat.rl.rollout import Rollout, sample_groups
from nomoat.stages.common import load_model, load_tokenizer, save_model, to_device
from nomoat.stages.recipe import Recipe, StageConfig
from nomoat.tasks import base
from nomoat.tokenizer import chat
from nomoat.train.loop import Gradient, Session, train
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.schedule import Schedule

LEAVES_WEIGHTS = True
FLOOR = 0.02  # weight of a level without any news, against 0.25 for one that is right half of the time


class Config(StageConfig):
    """GRPO on `prompts` problems a step with `group` rollouts each.

    `think` = true opens the thinking block for the model, null leaves that choice to it (as R1-Zero does).
    `memory` steers the choice of problems, see Choice.
    """

    tasks: dict[str, list[int]]
    steps: int
    prompts: int = 16
    group: int = 16
    max_new_tokens: int = 96
    think: bool | None = None
    memory: float = 0.8
    precision: Literal["bf16", "fp32"] = "fp32"  # of the gradient; the policy that is sampled is always float32
    optim: OptimConfig = OptimConfig(matrices="adamw", adam_lr=3e-4)
    schedule: Schedule = Schedule(warmup=0.1, decay=0.9, final=0.1)


def run(session: Session, config: Config, recipe: Recipe) -> dict[str, Any]:
    tokenizer = load_tokenizer(session.run)
    model = to_device(load_model(session, config.source), session, config.precision)
    optimizer = Optimizer(model, config.optim)
    policy = master_of(model, optimizer)
    problems = Choice(config.tasks, config.prompts, config.memory)

    def compute(step: int) -> Gradient:
        mine = problems.draw(recipe.key(config.name, step))[session.mesh.rank :: session.mesh.world]
        start = time.perf_counter()
        groups = sample_groups(
            policy, tokenizer, mine, group=config.group, max_new_tokens=config.max_new_tokens,
            seed=recipe.key(config.name, "sample", step, session.mesh.rank), think=config.think,
        )  # fmt: skip
        sampled = time.perf_counter()
        scores = reward.scores(groups, tokenizer)
        rewards = [[float(score.strict) for score in group] for group in scores]
        problems.learn(session.mesh, mine, rewards)
        live = [i for i, r in enumerate(rewards) if 0 < sum(r) < len(r)]
        rows = grpo.pack([groups[i] for i in live], [grpo.advantages(rewards[i]) for i in live])
        update = grpo.policy_gradient(model, rows, len(mine) * config.group * config.max_new_tokens, chat.PAD)
        return _gradient(model, groups, scores, update, live, sampled - start, time.perf_counter() - sampled)

    train(session, model, optimizer, config.schedule, config.steps, compute, problems.success)
    outputs = save_model(session, model, optimizer, tokenizer)
    return {**outputs, "bought": f"reward from {len(config.tasks)} programs"}


def master_of(model: Transformer, optimizer: Optimizer) -> Transformer:
    """The float32 model that the optimiser keeps: views of its master weights, never out of date."""
    policy = Transformer(model.spec)
    for name, parameter in policy.named_parameters():
        parameter.data = optimizer.master[name]
    for name, buffer in model.named_buffers():
        policy.get_submodule(name.rpartition(".")[0]).register_buffer(name.rpartition(".")[2], buffer)
    return policy.eval()


class Choice:
    """Which problems come next: each level as often as it has been informative, p (1 - p), and seldom if it was not.

    `success` is each level's running success rate, saved and restored with the weights; `memory` is the share of the
    past in it.  A level that is all right or all wrong teaches nothing, but is looked at now and then.
    """

    def __init__(self, tasks: Mapping[str, Sequence[int]], n: int, memory: float = 0.8):
        self.tasks, self.n, self.memory = tasks, n, memory
        self.success = {f"{family}/{level}": 0.5 for family, levels in tasks.items() for level in levels}

    def draw(self, seed: int) -> list[tuple[base.Task, int, base.Problem]]:
        rng = random.Random(f"choose/{seed}")
        places = rng.choices(list(self.success), [rate * (1 - rate) + FLOOR for rate in self.success.values()], k=self.n)
        chosen = []
        for slot, place in enumerate(places):
            family, _, level = place.rpartition("/")
            task = base.find(family)
            chosen.append((task, int(level), next(base.problems(task, int(level), split="train", seed=seed + slot))))
        return chosen

    def learn(self, mesh: Mesh, problems: Sequence[tuple[base.Task, int, base.Problem]], rewards: Sequence[Sequence[float]]):
        """Take in the rewards of all ranks."""
        mine = [(f"{base.short(task)}/{level}", sum(r) / len(r)) for (task, level, _), r in zip(problems, rewards)]
        for level, rate in (entry for rank in mesh.gather(mine) for entry in rank):
            self.success[level] = self.memory * self.success[level] + (1 - self.memory) * rate


def _gradient(
    model, groups: list[list[Rollout]], scores: list[list[reward.Score]], update: grpo.Update, live: list[int],
    sample_seconds: float, update_seconds: float,
) -> Gradient:  # fmt: skip
    spec = model.spec
    rollouts = [r for group in groups for r in group]
    flat = [s for group in scores for s in group]
    n = len(rollouts)
    new_tokens = sum(r.length for r in rollouts)
    prefilled = sum(group[0].n_prompt for group in groups)
    attended = prefilled / len(groups) + new_tokens / n / 2
    forward = prefilled * spec.flops_forward(prefilled / len(groups) / 2, head=False)
    model_flops = forward + new_tokens * spec.flops_forward(attended)
    executed = forward + new_tokens * spec.flops_forward(attended, executed=True)
    right = [r.length for r, s in zip(rollouts, flat) if s.strict]
    by_family: dict[str, list[float]] = {}
    for group, marks in zip(groups, scores):
        by_family.setdefault(base.short(group[0].task), []).extend(float(s.strict) for s in marks)
    telemetry = {
        "reward": sum(s.strict for s in flat) / n,
        "lenient": sum(s.lenient for s in flat) / n,
        "length": new_tokens / n,
        "length_right": sum(right) / len(right) if right else None,
        "truncated": sum(r.stop == "length" for r in rollouts) / n,
        "dead_groups": 1 - len(live) / len(groups),
        "entropy": update.entropy,
        "drift": update.drift,
        "rewards": {family: sum(marks) / len(marks) for family, marks in by_family.items()},
        "sample_seconds": sample_seconds,
        "update_seconds": update_seconds,
    }
    return Gradient(
        loss=update.loss,
        tokens=new_tokens,
        flops_model=model_flops + 3 * update.tokens * spec.flops_forward(attended),
        flops_executed=executed + 3 * update.tokens * spec.flops_forward(update.attended, executed=True),
        telemetry=telemetry,
    )


def plan(config: Config, recipe: Recipe) -> dict[str, Any]:
    """Answers are taken to be half as long as they may be: one forward pass samples a token, three train on it."""
    spec = recipe.shape(config)
    rollouts = config.steps * config.prompts * config.group
    tokens = rollouts * config.max_new_tokens // 2
    return {
        "parameters": spec.params_total(),
        "active": spec.params_active(),
        "tokens": tokens,
        "flops": 4 * tokens * spec.flops_forward(config.max_new_tokens / 2),
        "memory_bytes": (spec.params_total() + spec.params_mtp()) * 4 * 4,
        "rollouts": rollouts,
    }
