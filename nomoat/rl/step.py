"""One step of reinforcement learning: curriculum -> rollouts -> judged groups -> a gradient."""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from nomoat.config import Strict
from nomoat.model.spec import ModelSpec
from nomoat.model.transformer import Transformer
from nomoat.rl import grpo, reward, rollout, trace
from nomoat.rl.curriculum import Curriculum
from nomoat.rl.reference import Reference
from nomoat.rl.reward import Group
from nomoat.rl.rollout import Exercise
from nomoat.rl.variants import VARIANTS, Variant
from nomoat.tasks.verdicts import Verdicts, is_run
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.loop import Gradient, reduce_gradients
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.schedule import Schedule
from nomoat.train.session import Session

NO_NEWS = 1e-9  # an advantage that is nothing but rounding


class Settings(Strict):
    """GRPO on `prompts` problems a step with `group` rollouts each; those without news are replaced `refill`
    times.

    `think` = true opens the thinking block for the model, null leaves that choice to it (as R1-Zero does).
    `memory` steers the choice of problems, see Curriculum.  `minibatches` updates are made of each step's
    rollouts; one is on-policy.  `kl` pulls to the weights that the stage started from, or to those of
    `refresh` steps ago at most.
    """

    tasks: dict[str, list[int]]
    steps: int
    prompts: int = 16
    group: int = 16
    refill: int = 1
    max_new_tokens: int = 96
    think: bool | None = None
    memory: float = 0.8
    temperature: float = Field(1.0, gt=0)
    variant: Literal["dr-grpo", "grpo", "dapo", "gspo", "cispo", "rloo", "reinforce++"] = "dr-grpo"
    clip: tuple[float, float] | None = None  # instead of the variant's bounds of the ratio
    minibatches: int = Field(1, ge=1)
    kl: float = Field(0.0, ge=0)
    refresh: int | None = Field(None, ge=1)
    rewards: reward.Weights = reward.Weights()
    watch_every: int = Field(20, ge=1)  # steps between two looks at the probes and the KL
    precision: Literal["bf16", "fp32"] = (
        "fp32"  # of the gradient; the policy that is sampled is always float32
    )
    optim: OptimConfig = OptimConfig(matrices="adamw", adam_lr=3e-4)
    schedule: Schedule = Schedule(warmup=0.1, decay=0.9, final=0.1)

    def objective(self, n_rollouts: float) -> grpo.Objective:
        variant = VARIANTS[self.variant]
        return grpo.Objective(
            variant=replace(variant, bounds=self.clip) if self.clip else variant,
            n_rollouts=n_rollouts,
            longest=self.max_new_tokens,
            off_policy=self.minibatches > 1,
            temperature=self.temperature,
            kl=self.kl,
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """The judged groups of one step on one rank; `live` are those that teach something, with their
    advantages."""

    groups: tuple[Group, ...]
    live: tuple[Group, ...]
    seconds: float


@dataclass(frozen=True)
class Learner:
    """What the steps of one stage share; `key(*names)` are its seeds."""

    session: Session
    settings: Settings
    key: Callable[..., int]
    model: Transformer  # that is differentiated, in the precision of the settings
    policy: Transformer  # that is sampled: its float32 master
    optimizer: Optimizer
    tokenizer: Tokenizer
    curriculum: Curriculum
    reference: Reference

    def step(self, number: int) -> Gradient:
        """The gradient of step `number`, counted from 0; all minibatches but the last have been taken in
        already."""
        batch = self.collect(number)
        start = time.perf_counter()
        updates = self.update(number, batch)
        if self.watches(number):
            s = self.settings
            probes = trace.probe(self.policy, self.tokenizer, s.tasks, s.max_new_tokens, s.think)
            self.session.log("probe", step=number + 1, probes=probes)
        trace.write(self.session, number + 1, batch.groups)
        telemetry = trace.telemetry(batch.groups, len(batch.live), updates) | {
            "levels": dict(self.curriculum.success),
            "sample_seconds": batch.seconds,
            "update_seconds": time.perf_counter() - start,
        }
        between = (
            len(updates) - 1
        ) * self.optimizer.flops()  # of the minibatches; the loop counts the last one
        return cost(self.model.spec, batch, updates, between, telemetry)

    def watches(self, number: int) -> bool:
        return number % self.settings.watch_every == 0 or number == self.settings.steps - 1

    def collect(self, number: int) -> Batch:
        """Samples and judges one step's groups; draws again in the place of those without news."""
        start = time.perf_counter()
        wanted = self.settings.prompts // self.session.mesh.world
        variant = VARIANTS[self.settings.variant]
        groups: list[Group] = []
        live: list[Group] = []
        for attempt in range(1 + self.settings.refill):
            exercises = self.draw(number, attempt, wanted - len(live))
            groups += self.rollouts(number, attempt, exercises, len(groups))
            live = [group for group in compared(groups, variant) if has_news(group)][:wanted]
            if len(live) == wanted:
                break
        self.curriculum.learn(self.session.mesh, groups)
        return Batch(tuple(groups), tuple(live), time.perf_counter() - start)

    def draw(self, number: int, attempt: int, n: int) -> list[Exercise]:
        """This rank's exercises: first its share of all, then `n` of its own."""
        mesh = self.session.mesh
        if attempt:
            return self.curriculum.draw(self.key(number, attempt, mesh.rank), n)
        exercises = self.curriculum.draw(self.key(number), n * mesh.world)[mesh.rank :: mesh.world]
        reward.canary(exercises[number % len(exercises)])
        return exercises

    def rollouts(self, number: int, attempt: int, exercises: Sequence[Exercise], first: int) -> list[Group]:
        """Judged rollouts of the exercises, of which `first` is the number of the first one in the step."""
        s, rank = self.settings, self.session.mesh.rank
        with Verdicts() as verdicts:
            groups = rollout.sample(
                self.policy,
                self.tokenizer,
                exercises,
                group=s.group,
                max_new_tokens=s.max_new_tokens,
                seed=self.key("sample", number, rank, *([attempt] if attempt else [])),
                temperature=s.temperature,
                think=s.think,
                on_end=verdicts.begin if any(is_run(exercise.problem) for exercise in exercises) else None,
            )
            return reward.judge(
                groups,
                verdicts,
                s.rewards,
                shadow_key=self.key(number),
                coin_key=self.key("coin", number, rank),
                first=first,
            )

    def update(self, number: int, batch: Batch) -> list[grpo.Update]:
        """One policy gradient a minibatch, and the optimiser's step behind each but the last."""
        s, mesh = self.settings, self.session.mesh
        reference = self.reference.at(number, self.policy) if s.kl or self.watches(number) else None
        n_parts = max(mesh.gather(min(s.minibatches, len(batch.live))))  # as many on every rank
        parts = split(batch.live, n_parts, self.key("split", number))
        objective = s.objective(s.prompts // mesh.world * s.group / len(parts))
        updates = []
        for part in parts:
            if updates:
                self.half_step(s.schedule.factor(number, s.steps))
            updates.append(grpo.gradient(self.model, part, objective, reference))
        return updates

    def half_step(self, factor: float) -> None:
        """An update between two minibatches of one step; nothing happens where a gradient is not finite."""
        session, optimizer = self.session, self.optimizer
        norm = reduce_gradients(session.mesh, optimizer)
        if session.mesh.any(not math.isfinite(norm)):
            session.log("note", text=f"a minibatch with gradient norm {norm} was left out")
            optimizer.clear()
        else:
            optimizer.step(factor, norm)


def compared(groups: Sequence[Group], variant: Variant) -> list[Group]:
    """The groups with advantages, what is undecided left out."""
    decided = [[judged for judged in group if not judged.score.undecided] for group in groups]
    advantages = variant.advantage([[judged.reward for judged in group] for group in decided])
    return [
        tuple(replace(judged, advantage=a) for judged, a in zip(group, values))
        for group, values in zip(decided, advantages)
    ]


def has_news(group: Group) -> bool:
    return any(abs(judged.advantage) > NO_NEWS for judged in group)


def split(groups: Sequence, n: int, key: int) -> list[list]:
    """The groups at random in n about equal parts, some of them maybe empty; in one part at least."""
    order = list(groups)
    if n > 1:
        random.Random(f"split/{key}").shuffle(order)
    return [order[i :: max(n, 1)] for i in range(max(n, 1))]


def policy_of(model: Transformer, optimizer: Optimizer) -> Transformer:
    """The float32 model that the optimiser keeps: views of its master weights, never out of date."""
    policy = Transformer(model.spec)
    for name, parameter in policy.named_parameters():
        parameter.data = optimizer.master[name]
    for name, buffer in model.named_buffers():
        module, _, own_name = name.rpartition(".")
        policy.get_submodule(module).register_buffer(own_name, buffer)
    return policy.eval()


def cost(
    spec: ModelSpec, batch: Batch, updates: Sequence[grpo.Update], between_flops: float, telemetry: dict
) -> Gradient:
    """What the step cost, for the log: prompts prefilled once a group, new tokens, and the columns of the
    updates."""
    rollouts = [judged.rollout for group in batch.groups for judged in group]
    written = sum(r.length for r in rollouts)
    prefilled = sum(group[0].rollout.n_prompt for group in batch.groups)
    n_prompt = prefilled / len(batch.groups)
    attended = n_prompt + written / len(rollouts) / 2
    prefill = prefilled * spec.flops_forward(n_prompt / 2, head=False)
    columns = sum(update.tokens for update in updates)
    width = sum(update.attended * update.tokens for update in updates) / max(columns, 1)
    sampled = prefill + written * spec.flops_forward(attended)
    executed = prefill + written * spec.flops_forward(attended, executed=True)
    passes = updates[0].passes * columns
    return Gradient(
        loss=sum(update.loss for update in updates),
        tokens=written,
        flops_model=sampled + 3 * columns * spec.flops_forward(attended),
        flops_executed=executed + between_flops + passes * spec.flops_forward(width, executed=True),
        telemetry=telemetry,
    )
