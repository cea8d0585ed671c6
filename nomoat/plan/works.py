"""Pieces of a recipe's own work, as a probe times them: training on made-up rows, and what the host does.

A call gives the seconds that a unit of its stage's work would take, of which it may do a part; `amount` is
what the plan counts for that unit, so that one over the other is the rate.  `bytes` is held before, `larger`
how many times as much a real unit holds in passing.  What policies do is in waves.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from nomoat.data import documents, sources
from nomoat.data.packing import Batch
from nomoat.model import counts
from nomoat.model.loss import IGNORED
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Transformer
from nomoat.parallel.process import fast_bf16
from nomoat.rl import reward
from nomoat.rl.rollout import exercises
from nomoat.stages import estimate, s6_distill
from nomoat.stages.models import DTYPES
from nomoat.stages.recipe import Recipe, StageConfig
from nomoat.tasks.verdicts import Verdicts
from nomoat.tokenizer import bpe
from nomoat.train.objective import gradient
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.schedule import rows_before

STEP_FLOPS = 2e10  # of what is timed of a step, about: a small model's step is not its products alone,
FEWEST_TOKENS, MOST_TOKENS = 512, 2048  # so that more of it is timed
TRAINED = 0.6  # share of tokens with a target, measured in pretraining (0.7) and fine-tuning (0.45)
TEXT_CHARACTERS, N_DOCUMENTS = 20_000, 128  # of two texts that the host encodes, and of problems
TASKS = {"lamp": [4], "sorting": [3]}


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


def made_up(spec: Spec, B: int, T: int) -> Tensor:
    """(B, T) ids, the same for the same shape."""
    return torch.randint(spec.vocab_size, (B, T), generator=torch.Generator().manual_seed(0))


def rows(spec: Spec, B: int, T: int) -> Batch:
    """Random tokens, of which as many as usual have a target."""
    ids_BT = made_up(spec, B, T)
    targets_BT = ids_BT.roll(-1, 1)
    targets_BT[torch.rand(B, T, generator=torch.Generator().manual_seed(0)) > TRAINED] = IGNORED
    return Batch(ids_BT, targets_BT, torch.zeros(B, T, dtype=torch.int32))


def timed_tokens(spec: Spec) -> int:
    """Of a step that is timed, at most; the rest of a larger one is taken to last as long for each."""
    return int(min(max(STEP_FLOPS / counts.flops_train(spec, 0), FEWEST_TOKENS), MOST_TOKENS))


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
    def alike(self) -> object:
        """What makes a FLOP of two stages' steps the same."""
        c = self.config
        return self.recipe.shape(c), c.kind == "distill", c.precision, c.optim.matrices

    @property
    def n_units(self) -> float:
        """Whole steps that the stage's plan is made of."""
        c = self.config
        n = c.steps - getattr(c, "policy_steps", 0)
        return max(rows_before(n, *c.ramp) / c.rows, 1e-9)

    def pass_of(self, n_rows: int, T: int) -> float:
        """Seconds of forward and backward pass of so many rows, of which fewer are computed."""
        model = self.trainee.model
        B = min(n_rows, max(timed_tokens(model.spec) // T, 1))
        batch = rows(model.spec, B, T)
        if self.teacher is None:
            seconds = timed(lambda: gradient(model, batch, self.config.objective))
        else:
            pair = s6_distill.Pair(model, self.teacher)
            seconds = timed(lambda: s6_distill.imitate(pair, [batch]))
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
        """How many times as much a real step is as one that is timed."""
        c = self.config
        return max(c.rows * c.context / max(timed_tokens(self.recipe.shape(c)), c.context), 1.0)

    @property
    def amount(self) -> float:
        """What the plan counts for a whole step."""
        return self.recipe.plan(self.config)["trained"] / self.n_units


@dataclass(frozen=True)
class Hosting:
    """Text encoded, problems made, worked, encoded and judged; counted in seconds of the machine that
    stages/estimate.toml was measured on."""

    amount = estimate.PROBE_SECONDS
    bytes = 0.0
    larger = 1.0

    @cached_property
    def text(self) -> list[sources.Document]:
        shipped = documents.first(sources.shipped_files("train"), 1)  # a document of each language
        return [replace(document, text=document.text[:TEXT_CHARACTERS]) for document in shipped]

    @cached_property
    def tokenizer(self) -> bpe.Tokenizer:
        return bpe.train((document.text for document in self.text), 2 * bpe.SMALLEST_VOCAB)

    def __call__(self) -> float:
        tokenizer, text = self.tokenizer, self.text
        return timed(lambda: self.pass_of(text, tokenizer))

    def pass_of(self, text: list[sources.Document], tokenizer: bpe.Tokenizer) -> None:
        for _ in documents.prose(text, tokenizer):
            pass
        for _ in documents.worked(TASKS, N_DOCUMENTS, 1.0, tokenizer, 0):
            pass
        for exercise in exercises(TASKS, N_DOCUMENTS, 0):
            reward.grade(exercise, exercise.problem.witness, True, Verdicts())
