"""Arms of a comparison: several ways to train, each a record, trained side by side.

Every arm reads the same text through the same tokenizer and is measured on the same held-out bytes.  The arms
take turns within one process, each always as far in its own schedule as the others, so that a machine which
drifts slows all of them alike.  Only an arm's own steps count as its device time: tokenizing and evaluation
stay outside.
"""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch

from nomoat.config import Count, Positive, Share, Strict, UserError, parse
from nomoat.data.packing import Batch
from nomoat.evals.bits import bits_per_byte
from nomoat.evals.problems import Candidate
from nomoat.lab import fp8
from nomoat.lab.corpus import Corpus
from nomoat.lab.gpt2 import Gpt2, spec_of
from nomoat.lab.series import Json, Row, Series, meter
from nomoat.model import counts
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Transformer
from nomoat.rl.rollout import exercises
from nomoat.run.energy import Energy
from nomoat.stages.models import DTYPES
from nomoat.stats import grouped
from nomoat.train.objective import ObjectiveConfig, gradient
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.schedule import Schedule
from nomoat.train.start import from_bigrams

SLICES = 50  # turns that each arm takes
CALIBRATION_STEPS = 12
FEWEST_STEPS = 8
CURVE_POINTS = 100
KERNELS = Kernels(attention="plain")  # of every arm
JUDGED_PROBLEMS, JUDGED_TOKENS = 40, 96  # of a family and level; of an answer


class DivergedError(UserError):
    """An arm's loss or gradient is no number."""


class Arm(Strict):
    """One way to train.  `share` is its part of the budget; absent fields are the house's defaults.

    `model` is a shape without its vocabulary.  `short` is the share of the steps spent on rows of
    `short_context` tokens, as many tokens a step.  `weights = "counts"` sets embedding and head by counts of
    neighbours, whose time and FLOPs are the arm's.  `packing = "stream"` lets a row attend and predict across
    documents, as the cookbook does.
    """

    name: str
    block: Literal["deepseek", "gpt2"] = "deepseek"
    model: Json = {}
    optim: OptimConfig = OptimConfig()
    schedule: Schedule = Schedule()
    objective: ObjectiveConfig = ObjectiveConfig()
    rows: Count = 8
    context: Count = 256
    short_context: Count | None = None
    short: Share = 0.0
    precision: Literal["bf16", "fp32", "fp8"] = "bf16"
    weights: Literal["noise", "counts"] = "noise"
    packing: Literal["documents", "stream"] = "documents"
    share: Positive = 1.0

    def pace(self) -> "Arm":
        """What decides how long a step takes: arms of equal pace share what they measured."""
        same = {"name": "", "share": 1.0, "schedule": Schedule(), "objective": ObjectiveConfig()}
        return self.model_copy(update={**same, "optim": OptimConfig(matrices=self.optim.matrices)})


class Point(NamedTuple):
    """Where a training is after a step; the loss is in nats."""

    seconds: float
    tokens: int
    loss: float


def build(arm: Arm, corpus: Corpus, seed: int) -> Transformer | Gpt2:
    """The arm's model with its first weights, float32."""
    table = {"context": arm.context, **arm.model, "vocab_size": corpus.tokenizer.vocab_size}
    if arm.block == "gpt2":
        return Gpt2(spec_of(**table), KERNELS).initialise(seed)
    return Transformer(parse(Spec, table, f"{arm.name}.model"), KERNELS).initialise(seed)


class Trial:
    """One arm in training: `step()` `n_steps` times, then `result()`."""

    def __init__(self, arm: Arm, corpus: Corpus, seed: int, n_steps: int, energy: Energy):
        self.arm, self.corpus = arm, corpus
        self.seed, self.n_steps = seed, n_steps
        self.energy = energy
        self.steps = self.tokens = 0
        self.seconds = self.flops = self.joules = 0.0
        self.curve: list[Point] = []
        self.model = build(arm, corpus, seed)
        if arm.weights == "counts":
            with self._account():
                tokens = np.concatenate([shard.tokens for shard in corpus.shards.values()])
                self.flops += self._count(tokens)
        exact = arm.precision == "fp32"
        dtype = DTYPES["fp32" if exact else "bf16"]
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(dtype)
        self.optimizer = Optimizer(self.model, arm.optim)
        contexts = {arm.context, arm.short_context or arm.context}
        self.packed = {T: corpus.packed(T, seed) for T in contexts}
        self.rows_taken = dict.fromkeys(contexts, 0)

    def _count(self, tokens: np.ndarray) -> int:
        """First weights from counts; the FLOPs that it took."""
        embed, head, flops = from_bigrams(self.model.spec, tokens, self.seed)
        self.model.embed.weight.data = embed
        self.model.head.weight.data = head
        return flops

    @property
    def progress(self) -> float:
        return self.steps / self.n_steps

    def step(self) -> None:
        """One optimiser step; its time, energy and FLOPs, the optimiser's included, go onto the arm's
        account."""
        arm = self.arm
        with self._account():
            batch = self.batch()
            with fp8.emulated(self.model) if arm.precision == "fp8" else contextlib.nullcontext():
                computed = gradient(self.model, batch, arm.objective)
            grad_norm = float(self.optimizer.grad_norm())
            if not (math.isfinite(computed.loss) and math.isfinite(grad_norm)):
                raise DivergedError(
                    f"{arm.name}: loss {computed.loss} in step {self.steps + 1}; lower its learning rates"
                )
            self.optimizer.step(arm.schedule.factor(self.steps, self.n_steps), grad_norm)
            computed.after()
        self.flops += computed.flops_executed + self.optimizer.flops()
        self.tokens += computed.tokens
        self.steps += 1
        self.curve.append(Point(self.seconds, self.tokens, computed.loss))

    @contextlib.contextmanager
    def _account(self) -> Iterator[None]:
        self.energy.lap()
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start
        self.joules += self.energy.lap()[0]

    def batch(self) -> Batch:
        """The next rows, which every arm of a seed and a length reads in the same order."""
        arm = self.arm
        T, rows = arm.context, arm.rows
        if arm.short_context and self.progress < arm.short:
            T = arm.short_context
            rows = rows * arm.context // T
        batch = self.packed[T].batch(self.rows_taken[T], rows)
        self.rows_taken[T] += rows
        if arm.packing == "documents":
            return batch
        after_BT = torch.cat((batch.ids_BT[:, 1:], batch.targets_BT[:, -1:]), 1)
        return Batch(batch.ids_BT, after_BT, torch.zeros_like(batch.doc_BT))

    def result(self) -> Row:
        """What the arm cost and reached, by its float32 master weights: held-out bits per byte, and the share
        of tasks answered rightly where the corpus has any.

        `state_bytes`: weights, gradients, master weights and moments; `curve` is thinned.
        """
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.data = self.optimizer.master[name].clone()
        model, corpus, spec = self.model.eval(), self.corpus, self.model.spec
        bits = {lang: bits_per_byte(model, corpus.tokenizer, texts) for lang, texts in corpus.held.items()}
        sizes = {lang: sum(len(text.encode()) for text in texts) for lang, texts in corpus.held.items()}
        spent = {key: getattr(self, key) for key in ("seed", "steps", "tokens", "seconds", "flops", "joules")}
        return {
            "arm": self.arm.name,
            **spent,
            "joules_source": self.energy.source,
            "bpb": sum(bits[lang] * size for lang, size in sizes.items()) / sum(sizes.values()),
            "bpb_by_language": bits,
            "params_total": counts.params_total(spec),
            "params_active": counts.params_active(spec),
            "state_bytes": self._state_bytes(),
            "curve": self.curve[:: max(1, len(self.curve) // CURVE_POINTS)],
            "accuracy": answers(model, corpus) if corpus.tasks else None,
        }

    def _state_bytes(self) -> int:
        n_weights = sum(parameter.numel() for parameter in self.model.parameters())
        weights_and_gradients = 2 * n_weights * (4 if self.arm.precision == "fp32" else 2)
        return weights_and_gradients + sum(tensor.nbytes for tensor in self.optimizer.tensors().values())


def answers(model: Transformer, corpus: Corpus) -> float:
    """Share of right greedy answers to held-out problems, the mean over the families."""
    n_problems = JUDGED_PROBLEMS * sum(map(len, corpus.tasks.values()))
    drawn = exercises(corpus.tasks, n_problems, 0, "eval")
    candidate = Candidate(model, corpus.tokenizer, JUDGED_TOKENS)
    right = []
    for (judged,) in candidate.answers(None, drawn, samples=1, seed=0, greedy=True):
        family = judged.rollout.exercise.family
        right.append((family, judged.score.strict))
    return statistics.mean(map(statistics.mean, grouped(right).values()))


class Pace(NamedTuple):
    """Seconds of a step, and of what comes before the first."""

    step: float
    start: float


def calibrate(arms: Sequence[Arm], corpus: Corpus, seconds: float) -> dict[str, int]:
    """Steps of each arm that fill its share of `seconds`, from the fastest of a few that all arms take in
    turn.

    The fastest, because whatever else the machine does can only slow a step.
    """
    trials = [Trial(arm, corpus, 0, CALIBRATION_STEPS, meter()) for arm in arms]
    for _ in range(CALIBRATION_STEPS):
        for trial in trials:
            trial.step()
    fastest = {}
    for trial in trials:
        key, pace = repr(trial.arm.pace()), pace_of(trial)
        fastest[key] = min(pace, fastest.get(key, pace))
    steps = {}
    for arm in arms:
        pace = fastest[repr(arm.pace())]
        steps[arm.name] = max(FEWEST_STEPS, round((arm.share * seconds - pace.start) / pace.step))
    return steps


def pace_of(trial: Trial) -> Pace:
    """Rows of both lengths are timed; the first step is not, beyond what it tells of the first weights."""
    arm, ends = trial.arm, [point.seconds for point in trial.curve]
    spent = [end - begin for begin, end in zip(ends, ends[1:])]
    switch = math.ceil(arm.short * CALIBRATION_STEPS) - 1 if arm.short_context else 0
    step = arm.short * min(spent[:switch], default=0.0) + (1 - arm.short) * min(spent[switch:])
    return Pace(step, max(0.0, ends[0] - step) if arm.weights == "counts" else 0.0)


def race(trials: Sequence[Trial], tell: Callable[[float], None] = lambda share: None) -> None:
    """Trains all of them, in turns: always the one that is least far in its own schedule goes on a little."""
    while waiting := [trial for trial in trials if trial.steps < trial.n_steps]:
        trial = min(waiting, key=lambda trial: trial.progress)
        tell(trial.progress)
        for _ in range(max(1, min(trial.n_steps // SLICES, trial.n_steps - trial.steps))):
            trial.step()


def trained(series: Series, corpus: Corpus, runs: Sequence[tuple[Arm, int]], seed: int) -> list[Row]:
    """The results of one seed's runs, arms with their numbers of steps."""
    energy = meter()
    trials = [Trial(arm, corpus, seed, n_steps, energy) for arm, n_steps in runs]
    race(trials, partial(series.tell, f"seed {seed}"))
    return [trial.result() for trial in trials]
