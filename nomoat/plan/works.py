"""Pieces of a recipe's own work, as a probe times them: real models, optimisers, waves and updates, made-up rows.

Each call gives the seconds that one unit of its stage's work would take; `amount` is what the plan counts for
that unit, so that one over the other is the rate.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F

from nomoat.data import documents, sources
from nomoat.data.packing import Batch
from nomoat.engine.engine import ROWS, Engine, Limits
from nomoat.engine.generate import collected
from nomoat.engine.request import Request
from nomoat.model import counts
from nomoat.model.loss import IGNORED
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Transformer
from nomoat.parallel.process import fast_bf16
from nomoat.rl import grpo, reward
from nomoat.rl.reward import Group, Judged, Score
from nomoat.rl.rollout import Rollout, exercises
from nomoat.tasks.verdicts import Verdicts
from nomoat.rl.rows import MICRO_TOKENS
from nomoat.stages import estimate, s6_distill
from nomoat.stages.models import DTYPES
from nomoat.stages.recipe import Recipe, StageConfig, Tasks
from nomoat.tokenizer import bpe
from nomoat.train.objective import gradient
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.schedule import rows_before

STEP_TOKENS = 512  # of a step that is timed, at most: the rest of a larger one takes as long for each
TRAINED = 0.6  # share of tokens with a target, measured in pretraining (0.7) and fine-tuning (0.45)
WAVE_TOKENS = 6  # that a row draws on average; as many draw fewer as draw more
TEXT_BYTES, N_DOCUMENTS = 60_000, 64  # that the host encodes
SCORED_ROWS = 32  # of evals/bits.py


@dataclass(frozen=True)
class Trainee:
    """A model as a stage trains it, with its optimiser."""

    model: Transformer
    optimizer: Optimizer

    @classmethod
    def of(cls, spec: Spec, kernels: Kernels, precision: str, optim: OptimConfig) -> "Trainee":
        model = made(spec, kernels, precision)
        return cls(model, Optimizer(model, optim))

    def update(self) -> float:
        """Seconds of the optimiser's step, at a rate that changes nothing."""
        start = time.perf_counter()
        self.optimizer.step(0.0, float(self.optimizer.grad_norm()))
        return time.perf_counter() - start

    @property
    def bytes(self) -> float:
        """Of weights, gradients and the optimiser's tensors."""
        held = sum(t.nbytes for t in self.optimizer.tensors().values())
        return held + 2 * sum(p.nbytes for p in self.model.parameters())


def made(spec: Spec, kernels: Kernels, precision: str = "fp32") -> Transformer:
    dtype = DTYPES[precision] if fast_bf16(torch.device("cpu")) else torch.float32
    model = Transformer(spec, kernels).initialise(0)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def rows(spec: Spec, B: int, T: int) -> Batch:
    """Random tokens, of which as many as usual have a target."""
    generator = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(spec.vocab_size, (B, T), generator=generator)
    targets_BT = ids_BT.roll(-1, 1)
    targets_BT[torch.rand(B, T, generator=generator) > TRAINED] = IGNORED
    return Batch(ids_BT, targets_BT, torch.zeros(B, T, dtype=torch.int32))


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Training:
    """A step on documents: `config` is the stage's, `teacher` the shape of the one that is imitated."""

    recipe: Recipe
    config: StageConfig

    @cached_property
    def trainee(self) -> Trainee:
        c = self.config
        return Trainee.of(self.recipe.shape(c), self.recipe.kernels, c.precision, c.optim)

    @cached_property
    def teacher(self) -> Transformer | None:
        if self.config.kind != "distill":
            return None
        shape = self.recipe.shape(self.recipe.stage(self.config.source))
        return made(shape, self.recipe.kernels, self.config.precision).eval().requires_grad_(False)

    @property
    def n_units(self) -> float:
        """Whole steps that the stage's plan is made of."""
        c = self.config
        n = c.steps - getattr(c, "policy_steps", 0)
        return max(rows_before(n, *c.ramp) / c.rows, 1e-9)

    def pass_of(self, n_rows: int, T: int) -> float:
        """Seconds of forward and backward pass of so many rows, of which fewer are computed."""
        B = min(n_rows, max(STEP_TOKENS // T, 1))
        batch, model = rows(self.trainee.model.spec, B, T), self.trainee.model
        if self.teacher is None:
            seconds = timed(lambda: gradient(model, batch, self.config.objective))
        else:
            pair = s6_distill.Pair(model, self.teacher)
            seconds = timed(lambda: s6_distill.imitate(pair, batch))
        return seconds * n_rows / B

    def __call__(self) -> float:
        c = self.config
        seconds = self.pass_of(c.rows, c.context)
        if c.short_context:
            parts = c.context // c.short_context
            short = self.pass_of(c.rows * parts, c.short_context)
            seconds += c.short * (short - seconds)
        return seconds + self.trainee.update()

    @property
    def bytes(self) -> float:
        """What is there before the pass."""
        lent = sum(p.nbytes for p in self.teacher.parameters()) if self.teacher else 0
        return self.trainee.bytes + lent

    @property
    def larger(self) -> float:
        """How many times as much a pass of a real step holds as one that is timed."""
        c = self.config
        return max(c.rows * c.context / STEP_TOKENS, 1.0)


@dataclass(frozen=True)
class Answering:
    """What a stage asks a policy: tokens of a prompt and of an answer, samples of each, prompts at a time.
    `context` is what the policy reads by then."""

    kernels: Kernels
    spec: Spec
    context: int
    tasks: Tasks
    think: bool | None
    group: int
    n_prompts: int
    longest: int

    @cached_property
    def lengths(self) -> tuple[float, float]:
        return estimate.lengths(self.tasks, self.think, self.longest)

    @property
    def attended(self) -> float:
        prompt, answer = self.lengths
        return prompt + answer / 2


@dataclass(frozen=True)
class Sampling:
    """A wave of the engine, some rows of which end early."""

    asked: Answering

    @cached_property
    def model(self) -> Transformer:
        return made(self.asked.spec.changed(context=self.asked.context), self.asked.kernels).eval()

    @property
    def n_prompts(self) -> int:
        most = max(ROWS // self.asked.group, 1)
        return min(self.asked.n_prompts, most)

    @property
    def amount(self) -> float:
        prompt, _ = self.asked.lengths
        spec, n = self.asked.spec, self.n_prompts
        written = n * self.asked.group * WAVE_TOKENS * counts.flops_forward(spec, self.asked.attended)
        return written + n * prompt * counts.flops_forward(spec, prompt / 2, head=False) / 2

    def __call__(self) -> float:
        prompt, _ = self.asked.lengths
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(self.asked.spec.vocab_size, (self.n_prompts, round(prompt)), generator=generator)
        lengths = [1 + i % (2 * WAVE_TOKENS - 1) for i in range(self.n_prompts)]
        requests = [
            Request(ids, length, n=self.asked.group, key=i)
            for i, (ids, length) in enumerate(zip(drawn.tolist(), lengths))
        ]
        return timed(lambda: collected(self.engine(), requests, None))

    def engine(self) -> Engine:
        return Engine(self.model, Limits(rows=self.n_prompts * self.asked.group))

    @property
    def bytes(self) -> float:
        """Weights, and the whole cache."""
        engine = self.engine()
        return sum(p.nbytes for p in self.model.parameters()) + engine.blocks.n * engine.block_bytes

    larger = 1.0


@dataclass(frozen=True)
class Learning:
    """An update on made-up answers of the planned length: the policy's own of RL, or the teacher's of them."""

    asked: Answering
    config: StageConfig
    teacher: Spec | None = None

    @cached_property
    def trainee(self) -> Trainee:
        c, asked = self.config, self.asked
        return Trainee.of(asked.spec, asked.kernels, c.precision, c.optim)

    @cached_property
    def pair(self) -> s6_distill.Pair | None:
        if self.teacher is None:
            return None
        teacher = made(self.teacher, self.asked.kernels, self.config.precision)
        return s6_distill.Pair(self.trainee.model, teacher.eval().requires_grad_(False))

    @property
    def step_tokens(self) -> float:
        """Of a step: prompts, and the answers to each."""
        prompt, answer = self.asked.lengths
        return self.asked.n_prompts * (prompt + self.asked.group * answer)

    @property
    def n_prompts(self) -> int:
        share = STEP_TOKENS / self.step_tokens
        return max(round(self.asked.n_prompts * min(share, 1.0)), 1)

    @property
    def amount(self) -> float:
        tokens = self.step_tokens / self.asked.n_prompts * self.n_prompts
        attended = self.asked.attended
        if self.teacher is None:
            passes = 4 if self.config.kl else 3
            return passes * tokens * counts.flops_forward(self.asked.spec, attended)
        learned = counts.flops_train(self.asked.spec, attended)
        return tokens * (learned + counts.flops_forward(self.teacher, attended))

    @cached_property
    def groups(self) -> list[Group]:
        prompt, answer = self.asked.lengths
        spec, generator = self.asked.spec, torch.Generator().manual_seed(0)
        groups = []
        for _ in range(self.n_prompts):
            prompt_T = torch.randint(spec.vocab_size, (round(prompt),), generator=generator)
            group = []
            for j in range(self.asked.group):
                ids_T = torch.randint(spec.vocab_size, (max(round(answer), 1),), generator=generator)
                rollout = Rollout(None, prompt_T, ids_T, torch.full((len(ids_T),), -1.0), "", "end")
                group.append(Judged(rollout, Score(), 0.0, advantage=1.0 if j % 2 else -1.0))
            groups.append(tuple(group))
        return groups

    def __call__(self) -> float:
        """Of the rows that are computed, with their part of the optimiser's step."""
        groups, model = self.groups, self.trainee.model
        if self.pair is None:
            n_rollouts = self.n_prompts * self.asked.group
            reference = model if self.config.kl else None
            seconds = timed(lambda: grpo.gradient(model, groups, self.config, n_rollouts, reference))
        else:
            seconds = timed(lambda: s6_distill.match_answers(self.pair, groups))
        return seconds + self.trainee.update() * self.n_prompts / self.asked.n_prompts

    @property
    def bytes(self) -> float:
        """Weights, optimiser, and the one that is compared with."""
        other = self.teacher or self.asked.spec
        return self.trainee.bytes + 4 * (counts.params_total(other) + counts.params_mtp(other))

    @property
    def larger(self) -> float:
        live = (1 - estimate.DEAD) * self.step_tokens
        return max(min(live, MICRO_TOKENS) / STEP_TOKENS, 1.0)


@dataclass(frozen=True)
class Scoring:
    """A forward pass over windows of text, and the loss of each token."""

    asked: Answering

    @cached_property
    def model(self) -> Transformer:
        return made(self.asked.spec.changed(context=self.asked.context), self.asked.kernels).eval()

    @property
    def B(self) -> int:
        return max(STEP_TOKENS // self.asked.context, 1)

    @property
    def amount(self) -> float:
        spec = self.asked.spec
        return self.B * self.asked.context * counts.flops_forward(spec, spec.context / 2)

    def __call__(self) -> float:
        batch = rows(self.asked.spec, self.B, self.asked.context)
        return timed(lambda: self.pass_of(batch))

    @torch.inference_mode()
    def pass_of(self, batch: Batch) -> float:
        logits_MV = self.model(batch.ids_BT).flatten(0, 1)
        return float(F.cross_entropy(logits_MV, batch.targets_BT.flatten(), ignore_index=IGNORED))

    @property
    def bytes(self) -> float:
        return sum(p.nbytes for p in self.model.parameters())

    @property
    def larger(self) -> float:
        return SCORED_ROWS / self.B


@dataclass(frozen=True)
class Hosting:
    """Text encoded, problems made, worked, encoded and judged; a unit is a second of the machine that
    stages/estimate.toml was measured on."""

    tasks: Tasks

    n_units = 1.0
    amount = estimate.PROBE_SECONDS
    bytes = 0.0
    larger = 1.0

    @cached_property
    def text(self) -> list[sources.Document]:
        return list(documents.first(sources.shipped_files("train"), TEXT_BYTES // 2))

    @cached_property
    def tokenizer(self) -> bpe.Tokenizer:
        return bpe.train((document.text for document in self.text), 2 * bpe.SMALLEST_VOCAB)

    def __call__(self) -> float:
        tokenizer, text = self.tokenizer, self.text
        return timed(lambda: self.pass_of(text, tokenizer))

    def pass_of(self, text: list[sources.Document], tokenizer: bpe.Tokenizer) -> None:
        for _ in documents.prose(text, tokenizer):
            pass
        for _ in documents.worked(self.tasks, N_DOCUMENTS, 1.0, tokenizer, 0):
            pass
        for exercise in exercises(self.tasks, N_DOCUMENTS, 0):
            reward.grade(exercise, exercise.problem.witness, True, Verdicts())
