"""A second or two of a recipe's own work before it is planned: how long its shapes take here, what they hold.

A training step of the real model with the real optimiser on made-up rows, a wave of the engine, an update on
answers, a forward pass over text, documents made, encoded and judged: see works.py.  It reads and writes
nothing of a run, and draws from no stream that a run draws from.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from nomoat.engine.engine import ROWS
from nomoat.model import counts
from nomoat.parallel.contention import Polite
from nomoat.parallel.process import release_memory
from nomoat.plan.budget import estimate as lines_of
from nomoat.plan.machine import Machine, machine_of, with_rates
from nomoat.plan.rates import Rate, Rates
from nomoat.plan.waves import Answering, Learning, Sampling, Scoring
from nomoat.plan.works import Hosting, Training
from nomoat.run import memory
from nomoat.stages.recipe import Recipe, StageConfig

SECONDS = 2.0  # that all of it may take, about
MORE_SECONDS = 1.0  # behind these, for what is unsteady
ROUNDS = 5  # of each piece of work, at most
FEWEST = 2
UNSTEADY = 0.2  # spread of the rounds, with which there are more of them
SMALL = 0.05  # share of the whole time
LONG = 1.0  # seconds of one round by hardware.toml
BYTES_PER_PARAMETER, MEMORY_SHARE = 64, 0.25  # two copies, trained, of all the memory there is
TRAINED, ASKED = ("pretrain", "extend", "sft", "distill"), ("rl", "distill", "eval", "reject")  # kinds
Work = Training | Sampling | Learning | Scoring | Hosting


@dataclass
class Timing:
    """A piece of work, what its rounds took, and the (stage, kind) pairs that it tells of: its own, and those
    that only go as fast."""

    work: Work
    own: list[tuple[str, str]] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    bytes: float = 0.0

    def warm(self) -> None:
        """The first round, whose time is left out, and what it holds at most, the libraries that it was the
        first to load left out too."""
        held = self.work.bytes
        release_memory()
        before = memory.resident_bytes()
        memory.mark_peak()
        self.work()
        peak = memory.peak_bytes()
        release_memory()
        passing = peak - max(before, memory.resident_bytes())
        self.bytes = held + self.work.larger * max(passing, 0)


def probe(recipe: Recipe, only: Sequence[str] = (), seconds: float = SECONDS) -> Rates:
    """What this machine does with a recipe's stages, or those in `only`, on the threads of the recipe.

    The works take turns, so that a machine that drifts slows all alike, until `seconds` are over; each is
    done twice at least, behind one round that warms it up, and more often where its rounds differ much.
    """
    start, spent = time.perf_counter(), time.process_time()
    stages, held = {}, {}
    with _threads(recipe.threads), torch.random.fork_rng(devices=[]), Polite():
        for timing in _timed(timings_of(recipe, only), start + seconds):
            for stage, kind in (*timing.own, *timing.others):
                stages.setdefault(stage, {})[kind] = Rate.of(timing.rounds, timing.work.amount)
            for stage, _ in timing.own:
                held[stage] = max(held.get(stage, 0.0), timing.bytes)
    release_memory()
    took = time.perf_counter() - start
    busy = (time.process_time() - spent) / took
    base_bytes = memory.resident_bytes()
    return Rates(recipe.threads, recipe.device, base_bytes, took, busy, stages, held)


def _timed(timings: list[Timing], until: float) -> list[Timing]:
    """Those works with their rounds."""
    for timing in timings:
        timing.warm()
    for n in range(ROUNDS):
        if n >= FEWEST and time.perf_counter() > until:
            break
        for timing in timings:
            timing.rounds.append(timing.work())
    for timing in timings:
        while len(timing.rounds) < ROUNDS and Rate.of(timing.rounds, 1.0).spread > UNSTEADY:
            if time.perf_counter() > until + MORE_SECONDS:
                break
            timing.rounds.append(timing.work())
    return timings


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine_here(recipe: Recipe, only: Sequence[str] = ()) -> Machine:
    """Where a recipe runs, as a probe measures it now; on a card by hardware.toml."""
    machine = machine_of(recipe)
    if recipe.device != "cpu":
        return machine
    return with_rates(machine, probe(recipe, only))


class Told(NamedTuple):
    """A stage's kind of work, how long it is by hardware.toml, and what tells of it; works of one `key` are
    the same."""

    seconds: float
    stage: str
    kind: str
    key: object
    work: Work


def timings_of(recipe: Recipe, only: Sequence[str] = ()) -> list[Timing]:
    """The pieces of work that tell of a recipe's stages; what several stages do is done once, of what is a
    SMALL part of the whole the longest of its kind tells, and nothing of what is too LONG."""
    told = []
    for config in recipe.stages:
        if (not only or config.name in only) and small_enough(recipe, config):
            told += _told(recipe, config)
    small = SMALL * sum(t.seconds for t in told)
    timings: dict[object, Timing] = {}
    longest: dict[str, Timing] = {}  # of each kind
    for t in sorted(told, key=lambda t: -t.seconds):
        timing = timings.get(t.key)
        if timing is None and t.seconds < small and t.kind in longest:
            longest[t.kind].others.append((t.stage, t.kind))
            continue
        if timing is None:
            timing = timings[t.key] = Timing(t.work)
        longest.setdefault(t.kind, timing)
        timing.own.append((t.stage, t.kind))
    return [*timings.values(), Timing(Hosting(), own=[("host", "host")])]


def small_enough(recipe: Recipe, config: StageConfig) -> bool:
    """Whether the models of a stage may be made just to time them."""
    held = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    n_params = sum(counts.params_total(spec) + counts.params_mtp(spec) for spec in recipe.models.values())
    return BYTES_PER_PARAMETER * n_params < MEMORY_SHARE * held


def _told(recipe: Recipe, config: StageConfig) -> Iterator[Told]:
    """Of one stage."""
    machine = machine_of(recipe)
    (line,) = lines_of(recipe, [config.name], machine)
    seconds = {part.kind: part.seconds for part in line.parts}
    for kind, key, work in works_of(recipe, config):
        once = machine.part(config.name, kind, work.amount).seconds
        if isinstance(work, Training):
            once /= work.larger
        if once < LONG:
            yield Told(seconds.get(kind, 0.0), config.name, kind, key, work)


def works_of(recipe: Recipe, config: StageConfig) -> Iterator[tuple[str, object, Work]]:
    """(kind, what makes it the same as another, the work) of a stage."""
    n_policy_steps = getattr(config, "policy_steps", 0)
    if config.kind in TRAINED and config.steps > n_policy_steps:
        training = Training(recipe, config)
        yield "trained", training.alike, training
    if config.kind in ASKED:
        asked = asked_of(recipe, config)
        if asked.n_prompts:
            yield from _asked_works(recipe, config, asked)


def _asked_works(
    recipe: Recipe, config: StageConfig, asked: Answering
) -> Iterator[tuple[str, object, Work]]:
    """What a stage does with a policy that it asks."""
    sampling = Sampling(asked)
    wave = "wave", asked.spec, sampling.products, min(asked.n_prompts * asked.group, ROWS)
    yield "sampled", wave, sampling
    if config.kind == "rl":
        yield "learned", config.name, Learning(asked, config)
    elif config.kind == "distill":
        teacher = recipe.shape(recipe.stage(config.source))
        yield "learned", config.name, Learning(asked, config, teacher)
    elif config.kind == "eval" and config.heldout_bytes != 0:
        yield "scored", ("scored", asked.spec), Scoring(asked)


def asked_of(recipe: Recipe, config: StageConfig) -> Answering:
    """What a stage asks; of an evaluation its first model."""
    learns = config.kind in ("rl", "distill")
    think = config.policy_think if config.kind == "distill" else config.think
    measured = [recipe.stage(name) for name in getattr(config, "models", [])]
    measured += [stage for stage in recipe.stages if stage.leaves_weights]
    spec = recipe.shape(config if learns else measured[0])
    if learns:
        n_prompts = config.prompts if getattr(config, "policy_steps", 1) else 0
    else:
        n_prompts = config.n_problems if config.kind == "eval" else config.problems
    return Answering(
        kernels=recipe.kernels,
        spec=spec,
        context=max(spec.context, *(c.context for c in recipe.stages if c.kind == "extend"), 0),
        tasks=getattr(config, "policy_tasks", None) or config.tasks,
        think=think,
        group=config.group if learns else config.samples,
        n_prompts=n_prompts,
        longest=config.max_new_tokens,
        precision="fp32" if config.kind == "distill" else config.precision,
    )
