"""Stage 5: reinforcement learning on decidable tasks, rewarded by programs alone."""

import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from nomoat.files import shipped
from nomoat.model import counts
from nomoat.model.transformer import Transformer
from nomoat.rl import grpo, reward
from nomoat.rl.curriculum import Choice
from nomoat.rl.rollout import Rollout, sample_groups, text_of
from nomoat.rl.variants import VARIANTS
from nomoat.stages import estimate
from nomoat.stages.models import load_model, load_tokenizer, save_model, to_device
from nomoat.stages.recipe import Recipe, StageConfig
from nomoat.tasks import answers, base, find
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train import checkpoint
from nomoat.train.loop import Gradient, reduce_gradients, train
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.schedule import Schedule
from nomoat.train.session import Session

PROBES = 5  # held-out prompts that are answered again and again


class Config(StageConfig):
    """GRPO on `prompts` problems a step with `group` rollouts each; groups without news are replaced `refill` times.

    `think` = true opens the thinking block for the model, null leaves that choice to it (as R1-Zero does).
    `memory` steers the choice of problems, see Choice.  `minibatches` updates are made of each step's rollouts; one is
    on-policy.  `kl` pulls to the weights that the stage started from, or to those of `refresh` steps ago at most.
    `preset` = "r1" sets DeepSeek-R1's published values; what is given beside it wins.
    """

    preset: Literal["r1"] | None = None
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
    precision: Literal["bf16", "fp32"] = "fp32"  # of the gradient; the policy that is sampled is always float32
    optim: OptimConfig = OptimConfig(matrices="adamw", adam_lr=3e-4)
    schedule: Schedule = Schedule(warmup=0.1, decay=0.9, final=0.1)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, table: Any) -> Any:
        return {**shipped(__file__).get(table.get("preset"), {}), **table} if isinstance(table, dict) else table


@dataclass(frozen=True)
class Collected:
    """One step's rollouts with what became of them; `live` are the groups that teach something, with their advantages."""

    places: list[str]  # family/level of each group
    groups: list[list[Rollout]]
    scores: list[list[reward.Score]]
    rewards: list[list[float]]
    live: list[tuple[list[Rollout], list[float]]]
    seconds: float


def run(session: Session, config: Config, recipe: Recipe) -> dict[str, Any]:
    tokenizer = load_tokenizer(session.run)
    model = to_device(load_model(session, config.source), session, config.precision)
    optimizer = Optimizer(model, config.optim)
    policy = master_of(model, optimizer)
    choice = Choice(config.tasks, config.prompts, config.memory)
    reference = Reference(session, config)
    variant = VARIANTS[config.variant]
    variant = replace(variant, bounds=config.clip) if config.clip else variant
    probes = held_out(config.tasks)

    def compute(step: int) -> Gradient:
        found = collect(session, config, recipe, policy, tokenizer, choice, step)
        start = time.perf_counter()
        watched = step % config.watch_every == 0 or step == config.steps - 1
        against = reference.at(step, policy) if config.kl or watched else None
        n_parts = max(session.mesh.gather(min(config.minibatches, len(found.live))))  # as many on every rank
        parts = split(found.live, n_parts, recipe.key(config.name, "split", step))
        n = config.prompts // session.mesh.world * config.group / len(parts)
        updates = []
        for number, part in enumerate(parts, 1):
            lengths = [[r.length for r in group] for group, _ in part]
            weights = variant.weight(lengths, n, config.max_new_tokens)
            rows = grpo.pack([group for group, _ in part], [values for _, values in part], weights)
            updates.append(
                grpo.policy_gradient(
                    model, rows, tokenizer.layout.pad_id, variant=variant, off_policy=config.minibatches > 1,
                    temperature=config.temperature, reference=against, kl=config.kl,
                )
            )  # fmt: skip
            if number < len(parts):
                half_step(session, optimizer, config.schedule.factor(step, config.steps))
        if watched:
            session.log("probe", step=step + 1, probes=probe_answers(policy, tokenizer, probes, config))
        write(session, tokenizer, step + 1, found)
        inner = (len(parts) - 1) * optimizer.flops()  # of the updates between minibatches; the loop counts the last one
        return _gradient(model, found, updates, choice, inner, time.perf_counter() - start)

    train(session, model, optimizer, config.schedule, config.steps, compute, choice.success)
    outputs = save_model(session, model, optimizer, tokenizer)
    return {**outputs, "bought": f"reward from {len(config.tasks)} programs"}


def collect(
    session: Session, config: Config, recipe: Recipe, policy: Transformer, tokenizer: Tokenizer, choice: "Choice", step: int
) -> Collected:
    """Samples and judges one step's groups; draws again in the place of those without news."""
    start = time.perf_counter()
    rank, world = session.mesh.rank, session.mesh.world
    wanted = config.prompts // world
    places: list[str] = []
    groups: list[list[Rollout]] = []
    scores: list[list[reward.Score]] = []
    live: list[tuple[list[Rollout], list[float]]] = []
    for again in range(1 + config.refill):
        n = wanted * world if again == 0 else wanted - len(live)
        drawn = choice.draw(recipe.key(config.name, step, *([again, rank] if again else [])), n)
        mine = drawn[rank::world] if again == 0 else drawn
        if again == 0:
            _, task, _, problem = mine[step % len(mine)]
            reward.canary(task, problem)
        with reward.Ahead(tokenizer) as ahead:
            fresh = sample_groups(
                policy, tokenizer, [entry[1:] for entry in mine], group=config.group, max_new_tokens=config.max_new_tokens,
                seed=recipe.key(config.name, "sample", step, rank, *([again] if again else [])), think=config.think,
                temperature=config.temperature, on_end=ahead.hear,
            )  # fmt: skip
            scores += reward.scores(fresh, tokenizer, ahead.known)
        places += [place for place, *_ in mine]
        groups += fresh
        coins = recipe.key(config.name, "coin", step, rank)
        rewards = [
            [s.reward(config.rewards, reward.coin(coins, g, i) if config.rewards.random else 0.0) for i, s in enumerate(group)]
            for g, group in enumerate(scores)
        ]
        judged = [[i for i, s in enumerate(group) if not s.undecided] for group in scores]
        values = VARIANTS[config.variant].advantage([[rewards[g][i] for i in kept] for g, kept in enumerate(judged)])
        live = [
            ([groups[g][i] for i in kept], advantages)
            for g, (kept, advantages) in enumerate(zip(judged, values))
            if any(abs(a) > 1e-9 for a in advantages)
        ][:wanted]
        if len(live) == wanted:
            break
    doubted = [doubt(group, marks, tokenizer, recipe.key(config.name, step)) for group, marks in zip(groups, scores)]
    decided = [[float(s.strict) for s in group if not s.undecided] for group in scores]
    choice.learn(session.mesh, places, decided)
    return Collected(places, groups, doubted, rewards, live, time.perf_counter() - start)


def doubt(group: Sequence[Rollout], marks: list[reward.Score], tokenizer: Tokenizer, seed: int) -> list[reward.Score]:
    """The scores, `shadow` set where the shadow grader doubts the first right answer of the group or its equals."""
    right = [i for i, mark in enumerate(marks) if mark.strict]
    if not right:
        return marks
    texts = [answers.strict_answer(text_of(group[i], tokenizer), "text") for i in right]
    if not reward.doubts(group[right[0]], texts[0], seed):
        return marks
    alike = {i for i, text in zip(right, texts) if text == texts[0]}
    return [replace(mark, shadow=i in alike) for i, mark in enumerate(marks)]


def split(live: Sequence, n: int, seed: int) -> list[list]:
    """The groups at random in n about equal parts, some of them maybe empty; in one part at least."""
    order = list(live)
    if n > 1:
        random.Random(f"split/{seed}").shuffle(order)
    return [order[i :: max(n, 1)] for i in range(max(n, 1))]


def half_step(session: Session, optimizer: Optimizer, factor: float) -> None:
    """An update between two minibatches of one step; nothing happens where a gradient is not finite."""
    norm = reduce_gradients(session.mesh, optimizer)
    if session.mesh.any(not math.isfinite(norm)):
        session.log("note", text=f"a minibatch with gradient norm {norm} was left out")
        optimizer.clear()
    else:
        optimizer.step(factor, norm)


class Reference:
    """The frozen policy that the KL divergence is measured to: the start's, or that of the last `refresh`-th step."""

    def __init__(self, session: Session, config: Config):
        self.model = to_device(load_model(session, config.source), session, config.precision).requires_grad_(False)
        self.refresh, self.since = config.refresh, 0
        self.directory = session.run.stage_dir(session.stage) / "reference"
        self.leads = session.leads

    @torch.no_grad()
    def at(self, step: int, policy: Transformer) -> Transformer:
        """As of this step.  A refreshed reference is kept on disk, so that a resumed run measures to the same one."""
        due = step // self.refresh * self.refresh if self.refresh else 0
        if due != self.since:
            path = self.directory / f"step_{due:06d}"
            now = due == step or not path.exists()  # a rollback may have passed over the step itself
            source = dict(policy.named_parameters()) if now else checkpoint.load(path)[0]["model"]
            for name, parameter in self.model.named_parameters():
                parameter.copy_(source[name])
            if now and self.leads:
                checkpoint.save(self.directory, due, {"model": source}, {}, keep=3)
            self.since = due
        return self.model


def held_out(tasks: Mapping[str, Sequence[int]]) -> list[tuple[base.Task, int, base.Problem]]:
    """The same few held-out problems for all runs, from as many families as there are."""
    spots = [(find.find(family), levels[len(levels) // 2]) for family, levels in tasks.items()]
    spots = spots[:: max(len(spots) // PROBES, 1)]
    streams = [(task, level, base.problems(task, level, split="eval", seed=0)) for task, level in spots]
    return [(task, level, next(stream)) for i in range(PROBES) for task, level, stream in [streams[i % len(streams)]]]


def probe_answers(policy: Transformer, tokenizer: Tokenizer, probes: Sequence, config: Config) -> list[dict[str, Any]]:
    """The likeliest reply to each probe, and whether it is right."""
    groups = sample_groups(
        policy, tokenizer, probes, group=1, max_new_tokens=config.max_new_tokens, seed=0, greedy=True, think=config.think
    )
    return [
        {"family": base.short(r.task), "prompt": r.problem.prompt, "reply": text_of(r, tokenizer), "right": mark.strict}
        for (r,), (mark,) in zip(groups, reward.scores(groups, tokenizer))
    ]


def write(session: Session, tokenizer: Tokenizer, step: int, found: Collected) -> None:
    """Every rollout of the step, one JSON object a line, behind those of the steps before."""
    lines = []
    for number, (place, group, marks, values) in enumerate(zip(found.places, found.groups, found.scores, found.rewards)):
        family, _, level = place.rpartition("/")
        for r, mark, value in zip(group, marks, values):
            reply = text_of(r, tokenizer)
            answer = answers.strict_answer(reply, getattr(r.task, "form", "line"))
            record = {
                "step": step, "group": number, "family": family, "level": int(level), "key": r.problem.key,
                "prompt": r.problem.prompt, "reply": reply, "answer": answer, "reward": value, "strict": mark.strict,
                "lenient": mark.lenient, "shadow": mark.shadow, "undecided": mark.undecided, "length": r.length,
                "stop": r.stop, "logp": round(float(r.logp_T.sum()) / r.length, 4),
            }  # fmt: skip
            lines.append(json.dumps(record, ensure_ascii=False, allow_nan=False))
    everywhere = session.mesh.gather("".join(line + "\n" for line in lines))
    if session.leads:
        with open(session.run.stage_dir(session.stage) / "rollouts.jsonl", "a", encoding="utf-8", errors="replace") as file:
            file.write("".join(everywhere))


def master_of(model: Transformer, optimizer: Optimizer) -> Transformer:
    """The float32 model that the optimiser keeps: views of its master weights, never out of date."""
    policy = Transformer(model.spec, model.kernels)
    for name, parameter in policy.named_parameters():
        parameter.data = optimizer.master[name]
    for name, buffer in model.named_buffers():
        policy.get_submodule(name.rpartition(".")[0]).register_buffer(name.rpartition(".")[2], buffer)
    return policy.eval()


def _gradient(
    model: Transformer, found: Collected, updates: Sequence[grpo.Update], choice: Choice, inner_flops: float,
    update_seconds: float,
) -> Gradient:  # fmt: skip
    spec = model.spec
    rollouts = [r for group in found.groups for r in group]
    flat = [s for group in found.scores for s in group]
    n = len(rollouts)
    new_tokens = sum(r.length for r in rollouts)
    prefilled = sum(group[0].n_prompt for group in found.groups)
    attended = prefilled / len(found.groups) + new_tokens / n / 2
    forward = prefilled * counts.flops_forward(spec, prefilled / len(found.groups) / 2, head=False)
    model_flops = forward + new_tokens * counts.flops_forward(spec, attended)
    executed = forward + new_tokens * counts.flops_forward(spec, attended, model.kernels)
    tokens = sum(u.tokens for u in updates)
    width = sum(u.attended * u.tokens for u in updates) / max(tokens, 1)
    mean = lambda values: sum(values) / len(values) if values else None
    lengths = lambda right: [r.length for r, s in zip(rollouts, flat) if s.strict is right]
    by_family: dict[str, list[bool]] = {}
    for place, marks in zip(found.places, found.scores):
        by_family.setdefault(place.rpartition("/")[0], []).extend(s.strict for s in marks)
    telemetry = {
        "reward": mean([s.strict for s in flat]),
        "value": mean([r for group in found.rewards for r in group]),
        "lenient": mean([s.lenient for s in flat]),
        "shadow": mean([s.shadow for s in flat if s.strict]),
        "undecided": sum(s.undecided for s in flat),
        "length": new_tokens / n,
        "length_right": mean(lengths(True)),
        "length_wrong": mean(lengths(False)),
        "truncated": mean([r.stop == "length" for r in rollouts]),
        "dead_groups": 1 - len(found.live) / len(found.groups),
        "entropy": mean([u.entropy for u in updates]),
        "drift": updates[0].drift,
        "kl": updates[0].kl,
        "rewards": {family: mean(marks) for family, marks in by_family.items()},
        "levels": dict(choice.success),
        "sample_seconds": found.seconds,
        "update_seconds": update_seconds,
    }
    return Gradient(
        loss=sum(u.loss for u in updates),
        tokens=new_tokens,
        flops_model=model_flops + 3 * tokens * counts.flops_forward(spec, attended),
        flops_executed=executed + inner_flops + updates[0].passes * tokens * counts.flops_forward(spec, width, model.kernels),
        telemetry=telemetry,
    )


def plan(config: Config, recipe: Recipe) -> dict[str, Any]:
    spec, n = recipe.shape(config), config.steps * config.prompts
    prompt, answer = estimate.lengths(config.tasks, config.think, config.max_new_tokens)
    drawn, live = (n * (1 + estimate.DEAD), n * (1 - estimate.DEAD**2)) if config.refill else (n, n * (1 - estimate.DEAD))
    tokens, flops = drawn * config.group * answer, counts.flops_forward(spec, prompt + answer / 2)
    read = drawn * prompt * counts.flops_forward(spec, prompt / 2, head=False)
    learned = 3 * live * (prompt + config.group * answer) * flops
    return {
        "parameters": counts.params_total(spec),
        "active": counts.params_active(spec),
        "tokens": round(tokens),
        "flops": tokens * flops + read + learned,
        "memory_bytes": (counts.params_total(spec) + counts.params_mtp(spec)) * 4 * 4,
        "sampled": tokens * flops + (read + learned * (4 / 3 if config.kl else 1)) / 2,
        "rollouts": round(drawn * config.group),
    }
