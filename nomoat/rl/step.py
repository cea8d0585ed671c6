"""One step of reinforcement learning: curriculum -> rollouts -> judged groups -> a gradient."""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import Tensor

from nomoat.config import MOST, Count, DataError, Seed, Share, Weight, Whole
from nomoat.data.packing import Packed
from nomoat.engine import generate
from nomoat.engine.native.layout import Precision
from nomoat.model import counts, lora
from nomoat.model.lora import Lora
from nomoat.model.transformer import Transformer
from nomoat.parallel.process import release_memory
from nomoat.rl import exchange, grpo, kept, reward, rollout, trace
from nomoat.rl.curriculum import Curriculum
from nomoat.rl.mismatch import Mismatch
from nomoat.rl.outside import Outside, SamplerConfig
from nomoat.rl.reference import Reference
from nomoat.rl.reward import Group
from nomoat.rl.rollout import Exercise
from nomoat.rl.rows import Columns
from nomoat.rl.variants import VARIANTS, Variant
from nomoat.tasks import find
from nomoat.tasks.verdicts import Verdicts
from nomoat.tokenizer import layout
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.loop import Gradient, nothing, reduce_gradients
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.schedule import Schedule
from nomoat.train.session import Session

LARGE = 2**26  # parameters of a policy whose freed memory is given back at once
NO_NEWS = 1e-9  # an advantage that is nothing but rounding


class Settings(grpo.Objective):
    """GRPO on `prompts` problems a step with `group` rollouts each; those without news are replaced `refill`
    times.

    `think` = true opens the thinking block for the model, null leaves that choice to it (as R1-Zero does).
    `memory` and `behind` steer the choice of problems, see Curriculum.  `talk` conversations a step are
    learnt beside, rows of what the model replied in earlier stages (`replay`) held to the reference, both in
    rl/kept.py.  That and `kl`'s is what the stage started from, or the policy of `refresh` steps ago at most.
    """

    tasks: dict[str, Annotated[list[Seed], Field(min_length=1)]] = Field(min_length=1)
    steps: Count
    prompts: Count = 16
    group: int = Field(16, ge=2, le=MOST)
    refill: Whole = 1
    think: bool | None = None
    memory: Share = 0.8
    behind: Share = 0.0
    talk: Whole = 0
    talk_weight: Weight = 0.1
    replay: list[str] = []
    replay_rows: Count = 1
    replay_weight: Weight = 0.3
    refresh: Count | None = None
    sampler: SamplerConfig | None = None  # a server that draws the rollouts, see rl/outside.py
    rewards: reward.Weights = reward.Weights()
    watch_every: Count = 20  # steps between two looks at the probes and the KL
    precision: Literal["bf16", "fp32"] = "fp32"  # of the gradient; bf16 samples by tiles where there are some
    lora: Lora | None = None  # the reference is then the model with it switched off
    optim: OptimConfig = OptimConfig(matrices="adamw", adam_lr=3e-4)
    schedule: Schedule = Schedule(warmup=0.1, decay=0.9, final=0.1)

    @model_validator(mode="after")
    def _as_servers_tell(self):
        if self.sampler and self.temperature != 1:
            raise ValueError(
                f"temperature = {self.temperature} beside sampler: servers tell log-probabilities as at "
                "temperature 1; expected 1; leave temperature out"
            )
        return self


@dataclass(frozen=True, slots=True)
class Batch:
    """The judged groups of one step; `own` were drawn by this rank, `live` teach something and have their
    advantages.  `idle` is the share of the ranks' time in which they wait for the slowest."""

    groups: tuple[Group, ...]
    own: tuple[Group, ...]
    live: tuple[Group, ...]
    seconds: float
    idle: float
    mismatch: Mismatch | None = None  # of an outside sampler


@dataclass(frozen=True)
class Learner:
    """What the steps of one stage share; `key(*names)` are its seeds."""

    session: Session
    settings: Settings
    key: Callable[..., int]
    model: Transformer  # that is differentiated, in the precision of the settings
    policy: Transformer  # that is sampled: its float32 master, or what `renew` merges
    optimizer: Optimizer
    tokenizer: Tokenizer
    curriculum: Curriculum
    reference: Reference
    renew: Callable[[], None] = nothing  # before each sampling
    outside: Outside | None = None
    replies: Packed | None = None

    def step(self, number: int) -> Gradient:
        """The gradient of step `number`, counted from 0; all minibatches but the last have been taken in
        already."""
        batch = self.collect(number)
        self.release()
        start = time.perf_counter()
        updates = self.update(number, batch)
        beside = self.keep(number)
        if self.watches(number) and self.session.leads:
            s = self.settings
            how = {"think": s.think, "precision": self.products}
            probes = trace.probe(self.policy, self.tokenizer, s.tasks, s.max_new_tokens, **how)
            self.session.log("probe", step=number + 1, probes=probes)
            self.release()
        trace.write(self.session, number + 1, batch.groups)
        telemetry = trace.telemetry(batch.groups, len(batch.live), updates) | {
            "levels": dict(self.curriculum.success),
            "sample_seconds": batch.seconds,
            "idle_share": batch.idle,
            "sampler": batch.mismatch and asdict(batch.mismatch),
            "update_seconds": time.perf_counter() - start,
        } | {f"{name}_loss": part.loss for name, part in beside.items()}
        between = (len(updates) - 1) * self.optimizer.flops()  # the loop counts the last minibatch's
        return cost(self.model, batch, updates, between, list(beside.values()), telemetry)

    def watches(self, number: int) -> bool:
        return number % self.settings.watch_every == 0 or number == self.settings.steps - 1

    def collect(self, number: int) -> Batch:
        """Samples and judges one step's groups, on all ranks; draws again in the place of those without
        news."""
        start = time.perf_counter()
        self.renew()
        if self.outside:
            self.outside.renew(number, self.policy, self.tokenizer)
        wanted = self.settings.prompts
        variant = VARIANTS[self.settings.variant]
        draw = self.sampler()
        rounds: list[exchange.Drawn] = []
        groups, own, live = [], [], []
        for attempt in range(1 + self.settings.refill):
            exercises = self.fitting(self.draw(number, attempt, wanted - len(live)))
            rounds.append(self.rollouts(number, attempt, exercises, len(groups), draw))
            own += [rounds[-1].groups[i] for i in rounds[-1].own]
            groups += rounds[-1].groups
            live = [group for group in compared(groups, variant) if has_news(group)][:wanted]
            if len(live) == wanted:
                break
        mismatch = None
        if self.outside:
            groups, mismatch = self.outside.weighed(number, self.model, groups, self.settings.temperature)
            live = [group for group in compared(groups, variant) if has_news(group)][:wanted]
        self.curriculum.learn(groups)
        seconds, idle = time.perf_counter() - start, exchange.idle_share(rounds)
        return Batch(tuple(groups), tuple(own), tuple(live), seconds, idle, mismatch)

    def sampler(self) -> rollout.Draw:
        """What draws all rollouts of a step."""
        if self.outside:
            return self.outside.draw
        return generate.Sampler(self.products)

    @property
    def products(self) -> Precision:
        """Of the policy, where it is sampled here."""
        return generate.products_for(self.settings.precision, self.policy.device)

    def release(self) -> None:
        """What an engine held of a large policy goes back: its copy of the weights is as large again."""
        if counts.params_total(self.policy.spec) > LARGE:
            release_memory()

    def draw(self, number: int, attempt: int, n: int) -> list[Exercise]:
        """The exercises of all ranks."""
        if attempt:
            return self.curriculum.draw(self.key(number, attempt, 0), n)
        exercises = self.curriculum.draw(self.key(number), n)
        reward.canary(exercises[number % len(exercises)])
        return exercises

    def fitting(self, exercises: list[Exercise]) -> list[Exercise]:
        """The exercises that leave room for an answer; of a task file, the others are noted in the log."""
        if all(exercise.family in find.FAMILIES for exercise in exercises):
            return exercises
        talks = [layout.turns(e.problem.prompt, e.problem.facts) for e in exercises]
        prompts = layout.render_batch(self.tokenizer, talks, generate=True, think=self.settings.think)
        context = self.policy.spec.context
        for exercise, prompt in zip(exercises, prompts):
            if len(prompt.ids) >= context:
                self.session.log(
                    "note",
                    text=f"left out: the question {exercise.problem.prompt[:60]!r} of {exercise.family} has "
                    f"{len(prompt.ids):,} tokens, the context {context:,}",
                )
        fitting = [e for e, prompt in zip(exercises, prompts) if len(prompt.ids) < context]
        if not fitting:
            raise DataError(
                f"no question of this step fits into the context of {context:,} tokens, as "
                f"{exercises[0].problem.prompt[:60]!r}; expected room for an answer; shorten the "
                f"questions of {exercises[0].family}, or raise the context"
            )
        return fitting

    def rollouts(
        self, number: int, attempt: int, exercises: Sequence[Exercise], first: int, draw: rollout.Draw
    ) -> exchange.Drawn:
        """Judged rollouts of the exercises, of which `first` is the number of the first one in the step."""
        s = self.settings

        def work(own: range) -> list[Group]:
            with Verdicts() as verdicts:
                groups = rollout.sample(
                    self.policy,
                    self.tokenizer,
                    [exercises[i] for i in own],
                    group=s.group,
                    max_new_tokens=s.max_new_tokens,
                    seed=self.key("sample", number, 0, *([attempt] if attempt else [])),
                    keys=own,
                    temperature=s.temperature,
                    think=s.think,
                    verdicts=verdicts,
                    draw=draw,
                )
                keys = {"shadow_key": self.key(number), "coin_key": self.key("coin", number, 0)}
                return reward.judge(groups, verdicts, s.rewards, numbers=[first + i for i in own], **keys)

        return exchange.draw(self.session.mesh, exercises, work)

    def update(self, number: int, batch: Batch) -> list[grpo.Update]:
        """One policy gradient a minibatch, and the optimiser's step behind each but the last."""
        s, mesh = self.settings, self.session.mesh
        n_parts = min(s.minibatches, len(batch.live))
        parts = split(batch.live, n_parts, self.key("split", number))
        n_rollouts = s.prompts * s.group / len(parts)
        kl = s.kl or self.watches(number)
        reference = partial(self.referred, number) if kl else None
        updates = []
        for part in parts:
            if updates:
                self.half_step(s.schedule.factor(number, s.steps))
            updates.append(grpo.gradient(self.model, part, s, n_rollouts, reference, mesh))
        return updates

    def referred(self, number: int, laid: Sequence[Columns]) -> list[Tensor]:
        """What the reference says of some passes."""
        reference = self.reference.at(number, self.policy)
        said = grpo.log_probs(reference, laid, self.settings.temperature)
        del reference
        self.release()
        return said

    def keep(self, number: int) -> dict[str, kept.Kept]:
        """What goes with the last minibatch so that it isn't forgotten, by what it is."""
        s, found = self.settings, {}
        learn = partial(kept.gradient, self.model, mesh=self.session.mesh)
        if s.talk:
            T = kept.longest(self.model.spec)
            batch = kept.talk(self.tokenizer, s.tasks, s.talk, T, self.key("talk", number, 0))
            if batch:
                found["talk"] = learn(batch, s.talk_weight)
        if self.replies:
            batch = self.replies.batch(number * s.replay_rows, s.replay_rows)
            held = self.reference.at(number, self.policy)
            found["replay"] = learn(batch, s.replay_weight, reference=held)
        return found

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
    n = max(n, 1)
    if n > 1:
        random.Random(f"split/{key}").shuffle(order)
    return [order[i::n] for i in range(n)]


def cost(
    model: Transformer,
    batch: Batch,
    updates: Sequence[grpo.Update],
    between_flops: float,
    beside: Sequence[kept.Kept],
    telemetry: dict,
) -> Gradient:
    """What the step cost: prompts prefilled once a group, new tokens, and the columns of the updates."""
    spec = model.spec
    lengths = [judged.rollout.length for judged in reward.flat(batch.own)]
    written = sum(lengths)
    prefilled = sum(group[0].rollout.n_prompt for group in batch.own)
    n_prompt = prefilled / max(len(batch.own), 1)
    attended = n_prompt + written / max(len(lengths), 1) / 2
    prefill = prefilled * counts.flops_forward(spec, n_prompt / 2, head=False)
    columns = sum(update.tokens for update in updates)
    width = sum(update.attended * update.tokens for update in updates) / max(columns, 1)
    sampled = prefill + written * counts.flops_forward(spec, attended)
    executed = prefill + written * counts.flops_forward(spec, attended, model.kernels)
    if batch.mismatch:  # drawn elsewhere; here a pass measures what was drawn, about as wide
        executed = (prefilled + written) * counts.flops_forward(spec, attended, model.kernels)
    executed += between_flops + updates[0].passes * columns * counts.flops_forward(spec, width, model.kernels)
    flops = sampled + lora.passes(model) * columns * counts.flops_forward(spec, attended)
    for part in beside:
        flops += part.flops(spec, part.width / 2)
        executed += part.flops(spec, part.width, model.kernels)
    return Gradient(
        loss=sum(update.loss for update in updates),
        tokens=written,
        flops_model=flops,
        flops_executed=executed,
        telemetry=telemetry,
    )
