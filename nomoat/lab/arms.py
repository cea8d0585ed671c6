"""Arms of a comparison: several ways to train, each a record, trained side by side.

Every arm reads the same text through the same tokenizer and is measured on the same held-out bytes.  The arms take
turns within one process, each always as far in its own schedule as the others, so that a machine which drifts slows all
of them alike.  Only an arm's own steps count as its device time: tokenizing and evaluation stay outside.
"""

import contextlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from nomoat.config import ConfigError, Strict, UserError, parse
from nomoat.data import documents, shards
from nomoat.data.packing import Batch, Packed
from nomoat.evals.bits import bits_per_byte, held_out
from nomoat.files import write_whole
from nomoat.lab import fp8
from nomoat.lab.gpt2 import Gpt2, Gpt2Spec
from nomoat.model.spec import ModelSpec
from nomoat.model.transformer import Transformer
from nomoat.rl import reward
from nomoat.rl.rollout import exercises, sample
from nomoat.run.energy import Energy
from nomoat.stages.models import DTYPES
from nomoat.stages.pipeline import device_class
from nomoat.tasks import base, find
from nomoat.tokenizer import bpe
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.objective import ObjectiveConfig, gradient
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.schedule import Schedule
from nomoat.train.start import from_bigrams

SLICES = 50  # turns that each arm takes
CALIBRATION_STEPS = 12


class DivergedError(UserError):
    """An arm's loss or gradient is no number."""


class Arm(Strict):
    """One way to train.  `share` is its part of the budget; absent fields are the house's defaults.

    `model` is a shape without its vocabulary.  `short` is the share of the steps spent on rows of `short_context` tokens,
    as many tokens a step.
    `weights = "counts"` sets embedding and head by counts of neighbours, whose time and FLOPs are the arm's.
    `packing = "stream"` lets a row attend and predict across documents, as the cookbook does.
    """

    name: str
    block: Literal["deepseek", "gpt2"] = "deepseek"
    model: dict[str, Any] = {}
    optim: OptimConfig = OptimConfig()
    schedule: Schedule = Schedule()
    objective: ObjectiveConfig = ObjectiveConfig()
    rows: int = 8
    context: int = 256
    short_context: int | None = None
    short: float = 0.0
    precision: Literal["bf16", "fp32", "fp8"] = "bf16"
    weights: Literal["noise", "counts"] = "noise"
    packing: Literal["documents", "stream"] = "documents"
    share: float = 1.0


@dataclass(frozen=True)
class Corpus:
    """Tokens of the shared data, its tokenizer and the held-out text."""

    tokenizer: Tokenizer
    shards: Mapping[str, shards.Shard]
    shares: Mapping[str, float]
    held: Mapping[str, list[str]]
    tasks: Mapping[str, list[int]] = field(default_factory=dict)

    @classmethod
    def make(
        cls, root: Path, *, vocab_size: int = 2048, text: str | None = None, shares: Mapping[str, float] | None = None,
        tasks: Mapping[str, list[int]] | None = None, n_bytes: int | None = None, heldout_bytes: int | None = None,
    ) -> "Corpus":  # fmt: skip
        """From `text`, by default what ships; `shares` may mix in worked `tasks`.  Made once in `root`, then read."""
        shares, tasks = dict(shares or {"prose": 1.0}), dict(tasks or {})
        asked = {"vocab_size": vocab_size, "text": text, "shares": shares, "tasks": tasks, "n_bytes": n_bytes}
        if kept(root / "asked.json", lambda: asked) != json.loads(json.dumps(asked)):
            raise ConfigError(f"{root} was made of other text; expected {asked}; choose another --out, or remove it")
        if not (root / "tokenizer").exists():
            texts = [d.text for d in documents.text(text, n_bytes)]
            worked = (base.worked(find.find(f), p) for f, _, p in documents.problems(tasks, 10_000 if tasks else 0, 0))
            bpe.train([*texts, *(part for parts in worked for part in parts)], vocab_size).save(root / "tokenizer")
        tokenizer = Tokenizer.load(root / "tokenizer")
        makers = {
            "prose": lambda: documents.prose(documents.text(text, n_bytes), tokenizer),
            "tasks": lambda: documents.worked(tasks, 45_000, 1.0, tokenizer, 0),
        }
        for kind in shares:
            if not (root / kind).exists():
                shards.write(root / kind, makers[kind](), tokenizer.vocab_size)
        return cls(tokenizer, {k: shards.open(root / k) for k in shares}, shares, held_out(heldout_bytes), tasks)

    def packed(self, T: int, seed: int) -> Packed:
        return Packed(self.shards, self.shares, T, seed)


@dataclass(frozen=True)
class Result:
    """What one trained arm cost and reached.  `state_bytes`: weights, gradients, master weights and moments."""

    arm: str
    seed: int
    steps: int
    tokens: int
    seconds: float
    flops: float
    joules: float
    joules_source: str
    bpb: float
    bpb_by_language: dict[str, float]
    params_total: int
    params_active: int
    state_bytes: int
    curve: list[tuple[float, int, float]]  # (seconds, tokens, training loss in nats), thinned
    accuracy: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def build(arm: Arm, corpus: Corpus, seed: int) -> Transformer | Gpt2:
    """The arm's model with its first weights, float32."""
    table = {"context": arm.context, **arm.model, "vocab_size": corpus.tokenizer.vocab_size}
    if arm.block == "gpt2":
        return Gpt2(parse(Gpt2Spec, table, f"{arm.name}.model")).initialise(seed)
    return Transformer(parse(ModelSpec, table, f"{arm.name}.model")).initialise(seed)


class Trial:
    """One arm in training: `step()` until `done`, then `result()`."""

    def __init__(self, arm: Arm, corpus: Corpus, seed: int, n_steps: int, energy: Energy, device: str = "cpu"):
        self.arm, self.corpus, self.seed, self.n_steps, self.energy = arm, corpus, seed, n_steps, energy
        self.steps = self.tokens = 0
        self.seconds = self.flops = self.joules = 0.0
        self.curve: list[tuple[float, int, float]] = []
        self.model = build(arm, corpus, seed).to(device)
        if arm.weights == "counts":
            with self._account():
                self.flops += from_bigrams(self.model, np.concatenate([s.tokens for s in corpus.shards.values()]), seed)
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(DTYPES["fp32" if arm.precision == "fp32" else "bf16"])
        self.optimizer = Optimizer(self.model, arm.optim)
        self.data = {T: corpus.packed(T, seed) for T in {arm.context, arm.short_context or arm.context}}
        self.rows_taken = dict.fromkeys(self.data, 0)

    @property
    def done(self) -> bool:
        return self.steps >= self.n_steps

    def step(self) -> None:
        """One optimiser step; its time, energy and FLOPs, the optimiser's included, go onto the arm's account."""
        arm = self.arm
        with self._account():
            batch = self._batch()
            with fp8.emulated(self.model) if arm.precision == "fp8" else contextlib.nullcontext():
                found = gradient(self.model, batch, arm.objective)
            grad_norm = float(self.optimizer.grad_norm())
            if not (math.isfinite(found.loss) and math.isfinite(grad_norm)):
                raise DivergedError(f"{arm.name}: loss {found.loss} in step {self.steps + 1}; lower its learning rates")
            self.optimizer.step(arm.schedule.factor(self.steps, self.n_steps), grad_norm)
            found.after()
        self.flops += found.flops_executed + self.optimizer.flops()
        self.tokens += found.tokens
        self.steps += 1
        self.curve.append((self.seconds, self.tokens, found.loss))

    @contextlib.contextmanager
    def _account(self) -> Iterator[None]:
        self.energy.lap()
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start
        self.joules += self.energy.lap()[0]

    def _batch(self) -> Batch:
        arm, T, rows = self.arm, self.arm.context, self.arm.rows
        if arm.short_context and self.steps < arm.short * self.n_steps:
            T, rows = arm.short_context, rows * arm.context // arm.short_context
        batch = self.data[T].batch(self.rows_taken[T], rows)
        self.rows_taken[T] += rows
        if arm.packing == "stream":
            after_BT = torch.cat((batch.ids_BT[:, 1:], batch.targets_BT[:, -1:]), 1)
            batch = Batch(batch.ids_BT, after_BT, torch.zeros_like(batch.doc_BT))
        return batch

    def result(self) -> Result:
        """Measures the trained weights: float32 master weights, held-out bits per byte, answers where there are tasks."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.data = self.optimizer.master[name].clone()
        model, corpus = self.model.eval(), self.corpus
        bits = {lang: bits_per_byte(model, corpus.tokenizer, texts) for lang, texts in corpus.held.items()}
        size = {lang: sum(len(t.encode()) for t in texts) for lang, texts in corpus.held.items()}
        weights = 2 * sum(p.numel() for p in model.parameters()) * (4 if self.arm.precision == "fp32" else 2)
        state = sum(t.numel() * t.element_size() for t in self.optimizer.tensors().values())
        return Result(
            arm=self.arm.name, seed=self.seed, steps=self.steps, tokens=self.tokens, seconds=self.seconds, flops=self.flops,
            joules=self.joules, joules_source=self.energy.source,
            bpb=sum(bits[k] * size[k] for k in bits) / sum(size.values()), bpb_by_language=bits,
            params_total=model.spec.params_total(), params_active=model.spec.params_active(), state_bytes=weights + state,
            curve=self.curve[:: max(1, len(self.curve) // 100)], accuracy=answers(model, corpus) if corpus.tasks else None,
        )  # fmt: skip


def answers(model: Transformer, corpus: Corpus, problems: int = 40, max_new_tokens: int = 96) -> float:
    """Share of right greedy answers to held-out problems, the mean over the families."""
    n = problems * sum(map(len, corpus.tasks.values()))
    drawn = documents.problems(corpus.tasks, n, 0, split="eval")
    groups = sample(model, corpus.tokenizer, exercises(drawn), group=1, max_new_tokens=max_new_tokens, seed=0, greedy=True,
                    max_rows=1024)  # fmt: skip
    right: dict[str, list[bool]] = {}
    for (judged,) in reward.judge(groups):
        right.setdefault(judged.rollout.exercise.family, []).append(judged.score.strict)
    return statistics.mean(statistics.mean(r) for r in right.values())


def calibrate(arms: Sequence[Arm], corpus: Corpus, seconds: float, device: str = "cpu") -> dict[str, int]:
    """Steps of each arm that fill its share of `seconds`, from the fastest of a few steps that all arms take in turn.

    The fastest, because whatever else the machine does can only slow a step; arms of one shape share what they measured.
    """
    energy = Energy(device_class(torch.device(device)))
    trials = [Trial(arm, corpus, 0, CALIBRATION_STEPS, energy, device) for arm in arms]
    for _ in range(CALIBRATION_STEPS):
        for trial in trials:
            trial.step()
    fastest: dict[str, tuple[float, float]] = {}  # seconds of a step, and before the first
    for trial in trials:
        arm, ends = trial.arm, [point[0] for point in trial.curve]
        spent = [b - a for a, b in zip(ends, ends[1:])]
        switch = math.ceil(arm.short * CALIBRATION_STEPS) - 1 if arm.short_context else 0  # rows of both lengths are timed
        step = arm.short * min(spent[:switch], default=0.0) + (1 - arm.short) * min(spent[switch:])
        found = step, max(0.0, ends[0] - step) if arm.weights == "counts" else 0.0
        fastest[_shape(arm)] = min(found, fastest.get(_shape(arm), found))
    steps = {}
    for arm in arms:
        each, before = fastest[_shape(arm)]
        steps[arm.name] = max(8, round((arm.share * seconds - before) / each))
    return steps


def _shape(arm: Arm) -> str:
    """What decides how long a step takes."""
    same = arm.model_copy(update={"name": "", "share": 1.0, "schedule": Schedule(), "objective": ObjectiveConfig()})
    return repr(same.model_copy(update={"optim": arm.optim.matrices}))


def race(trials: Sequence[Trial], tell: Callable[[float], None] = lambda share: None) -> None:
    """Trains all of them, in turns: always the one that is least far in its own schedule goes on a little."""
    while waiting := [t for t in trials if not t.done]:
        trial = min(waiting, key=lambda t: t.steps / t.n_steps)
        tell(trial.steps / trial.n_steps)
        for _ in range(max(1, min(trial.n_steps // SLICES, trial.n_steps - trial.steps))):
            trial.step()


def student(values: Sequence[float], quantiles: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean, None for one value; `quantiles` of 97.5 % from one degree of freedom on."""
    if len(values) < 2:
        return None
    half = quantiles[min(len(values) - 2, len(quantiles) - 1)] * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values) - half, statistics.mean(values) + half


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """The JSON at `path`, made where it is not there yet: a comparison that was stopped goes on."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(make(), indent=1))
    return json.loads(path.read_text("utf-8"))


def series(
    out: Path, asked: Mapping[str, Any], steps: Callable[[], Any], runs: Callable[[Any], Sequence[tuple[Arm, int]]],
    corpus: Corpus, n_seeds: int, device: str, tell: Callable[[str, float], None],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:  # fmt: skip
    """(setting, results as JSON) of a comparison in `out`, whose finished seeds are not trained again.

    `asked`, its seconds among it, is what makes it this comparison; `steps()` measures how far each arm goes, once, and
    `runs(steps)` names the arms of a seed with their numbers of steps.
    """
    if n_seeds < 1 or not asked["seconds"] > 0:
        raise ConfigError(f"{n_seeds} seeds of {asked['seconds']} s; expected at least one seed and a time above zero")
    asked = json.loads(json.dumps({**asked, "units": torch.get_num_threads() if device == "cpu" else 1}))
    setting = kept(out / "setting.json", lambda: {**asked, "steps": steps()})
    if {key: setting.get(key) for key in asked} != asked:
        raise ConfigError(f"{out} holds another comparison (arms, budget, threads or text); choose another --out, or remove it")

    def trained(seed: int) -> list[dict[str, Any]]:
        energy = Energy(device_class(torch.device(device)), units=setting["units"])
        trials = [Trial(arm, corpus, seed, n_steps, energy, device) for arm, n_steps in runs(setting["steps"])]
        race(trials, partial(tell, f"seed {seed}"))
        return [trial.result().to_json() for trial in trials]

    return setting, [row for seed in range(n_seeds) for row in kept(out / f"seed-{seed}.json", partial(trained, seed))]
