"""Pieces of a recipe's own work that policies do, as a probe times them (works.py): waves of the engine,
updates on what was written, forward passes over text."""

from dataclasses import dataclass
from functools import cached_property, partial

import torch
import torch.nn.functional as F

from nomoat.data.packing import Batch
from nomoat.engine.engine import ROWS, Engine, Limits
from nomoat.engine.generate import collected, products_for
from nomoat.engine.native.layout import Precision
from nomoat.engine.request import Request
from nomoat.model import counts
from nomoat.model.loss import IGNORED
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Transformer
from nomoat.plan.works import Trainee, made, made_up, rows, timed, timed_tokens
from nomoat.rl import grpo
from nomoat.rl.reward import Group, Judged, Score
from nomoat.rl.rollout import Rollout
from nomoat.rl.rows import MICRO_TOKENS
from nomoat.stages import estimate, s6_distill
from nomoat.stages.recipe import StageConfig, Tasks

WAVE_TOKENS = 6  # that a row draws on average; as many draw fewer as draw more
SCORED_ROWS = 32  # of evals/bits.py
HOLES = 1.35  # of its large tensors in a heap that has been used: 1.1 to 1.65 measured


@dataclass(frozen=True)
class Answering:
    """What a stage asks a policy: tokens of a prompt and of an answer, samples of each, prompts at a time.
    `context` is what the policy reads by then, `precision` that of its products."""

    kernels: Kernels
    spec: Spec
    context: int
    tasks: Tasks
    think: bool | None
    group: int
    n_prompts: int
    longest: int
    precision: str

    @cached_property
    def lengths(self) -> tuple[float, float]:
        """Those that fit: a question that doesn't is told where there is a tokenizer (stages/vetting.py)."""
        prompt, answer = estimate.lengths(self.tasks, self.think, self.longest)
        prompt = min(prompt, self.context - 1.0)
        return prompt, min(answer, self.context - prompt)

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

    @cached_property
    def requests(self) -> list[Request]:
        """Prompts of one length, and answers of up to twice WAVE_TOKENS."""
        prompt, _ = self.asked.lengths
        requests = []
        for i, ids_T in enumerate(made_up(self.asked.spec, self.n_prompts, round(prompt))):
            length = 1 + i % (2 * WAVE_TOKENS - 1)
            requests.append(Request(ids_T.tolist(), length, n=self.asked.group, key=i))
        return requests

    def __call__(self) -> float:
        return timed(lambda: collected(self.engine(), self.requests, None))

    @property
    def products(self) -> Precision:
        return products_for(self.asked.precision, torch.device("cpu"))

    def engine(self) -> Engine:
        limits = Limits(rows=self.n_prompts * self.asked.group)
        return Engine(self.model, limits, precision=self.products)

    @property
    def bytes(self) -> float:
        """Weights, and the whole cache."""
        engine = self.engine()
        return sum(p.nbytes for p in self.model.parameters()) + engine.blocks.n * engine.block_bytes

    larger = 1.0


@dataclass(frozen=True)
class Learning:
    """An update on made-up answers of the planned length: that of RL, or the divergence from a teacher."""

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
        share = timed_tokens(self.asked.spec) / self.step_tokens
        return max(round(self.asked.n_prompts * min(share, 1.0)), 1)

    @property
    def amount(self) -> float:
        """As the plans of rl and distill count it."""
        tokens = self.step_tokens / self.asked.n_prompts * self.n_prompts
        attended = self.asked.attended
        own = counts.flops_forward(self.asked.spec, attended)
        if self.teacher is None:
            return tokens * own * (4 if self.config.kl else 3)
        return tokens * (3 * own + counts.flops_forward(self.teacher, attended))

    @cached_property
    def groups(self) -> list[Group]:
        """Answers of one length, each second one right."""
        prompt, answer = (max(round(length), 1) for length in self.asked.lengths)
        spec, n = self.asked.spec, self.asked.group
        groups = []
        for prompt_T in made_up(spec, self.n_prompts, prompt):
            rollouts = [
                Rollout(None, prompt_T, ids_T, torch.full((answer,), -1.0), "", "end")
                for ids_T in made_up(spec, n, answer)
            ]
            worth = [1.0, -1.0] * n
            groups.append(tuple(Judged(r, Score(), 0.0, advantage=a) for r, a in zip(rollouts, worth)))
        return groups

    def __call__(self) -> float:
        """Of the rows that are computed, with their part of the optimiser's step."""
        if self.pair is None:
            seconds = timed(self._update)
        else:
            seconds = timed(lambda: s6_distill.match_answers(self.pair, self.groups))
        return seconds + self.trainee.update() * self.n_prompts / self.asked.n_prompts

    def _update(self) -> grpo.Update:
        groups, model, config = self.groups, self.trainee.model, self.config
        reference = partial(grpo.log_probs, model) if config.kl else None
        return grpo.gradient(model, groups, config, self.n_prompts * self.asked.group, reference)

    @property
    def bytes(self) -> float:
        """Weights, optimiser, and the one that is compared with."""
        other = self.teacher or self.asked.spec
        return self.trainee.bytes + 4 * (counts.params_total(other) + counts.params_mtp(other))

    @property
    def larger(self) -> float:
        live = (1 - estimate.DEAD) * self.step_tokens
        return max(min(live, MICRO_TOKENS) / timed_tokens(self.asked.spec), 1.0)


@dataclass(frozen=True)
class Scoring:
    """A forward pass over windows of text, and the loss of each token."""

    asked: Answering

    @cached_property
    def model(self) -> Transformer:
        return made(self.asked.spec.changed(context=self.asked.context), self.asked.kernels).eval()

    @property
    def B(self) -> int:
        return max(timed_tokens(self.asked.spec) // self.asked.context, 1)

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
        return HOLES * SCORED_ROWS / self.B
