"""A second or two of a recipe's own work before it is planned: how long its shapes take here, what they hold.

A training step of the real model with the real optimiser on made-up rows, a wave of the engine, an update on
answers, a forward pass over text, documents made, encoded and judged: see works.py.  It reads and writes
nothing of a run, and draws from no stream that a run draws from.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from nomoat.engine.engine import ROWS
from nomoat.parallel.contention import Polite
from nomoat.parallel.process import release_memory
from nomoat.plan.budget import estimate as lines_of
from nomoat.plan.machine import Machine, machine_of, with_rates
from nomoat.plan.rates import Rate, Rates
from nomoat.plan.works import Answering, Hosting, Learning, Sampling, Scoring, Training
from nomoat.run import memory
from nomoat.stages import estimate
from nomoat.stages.recipe import Recipe, StageConfig, Tasks

SECONDS = 2.0  # that all of it may take, about
ROUNDS = 5  # of each piece of work, at most
FEWEST = 2
UNSTEADY = 0.2  # spread of the rounds, with which there are more of them
SMALL = 0.05  # share of the whole time
Work = Training | Sampling | Learning | Scoring | Hosting


@dataclass
class Timing:
    """A piece of work, the (stage, kind) that it tells of, and what its rounds took."""

    work: Work
    amount: float
    tells: list[tuple[str, str]]
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

    The works take turns, so that a machine that drifts slows all alike, until `seconds` are over; each is done
    twice at least, behind one round that warms it up, and some more times where its rounds differ much.
    """
    start, spent = time.perf_counter(), time.process_time()
    stages, held = {}, {}
    with _threads(recipe.threads), torch.random.fork_rng(devices=[]), Polite():
        for timing in _timed(timings_of(recipe, only), start + seconds):
            for stage, kind in timing.tells:
                stages.setdefault(stage, {})[kind] = Rate.of(timing.rounds, timing.amount)
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


def timings_of(recipe: Recipe, only: Sequence[str] = ()) -> list[Timing]:
    """The pieces of work that tell of a recipe's stages; what several stages do is done once, and what is a
    SMALL part of the whole only where no other stage does the like."""
    timings: dict[object, Timing] = {}
    for small, config, kind, key, work in _by_size(recipe, only):
        timing = timings.get(key)
        if timing is None:
            if small and any(kind == known for t in timings.values() for _, known in t.tells):
                continue
            timing = timings[key] = Timing(work, amount_of(recipe, config, kind, work), [])
        timing.tells.append((config.name, kind))
    tasks = next((c.tasks for c in recipe.stages if getattr(c, "tasks", None)), {})
    if tasks:
        timings["host"] = Timing(Hosting(tasks), estimate.PROBE_SECONDS, [("host", "host")])
    return list(timings.values())


def _by_size(recipe: Recipe, only: Sequence[str]) -> list[tuple[bool, StageConfig, str, object, Work]]:
    """(whether it is small, stage, kind, key, work), the longest first by the rates of hardware.toml."""
    lines = {line.stage: line for line in lines_of(recipe, only)}
    whole = sum(line.seconds for line in lines.values())
    found = []
    for config in recipe.stages:
        if config.name in lines:
            seconds = {part.kind: part.seconds for part in lines[config.name].parts}
            for kind, key, work in works_of(recipe, config):
                found.append((seconds.get(kind, 0.0), config, kind, key, work))
    found.sort(key=lambda row: -row[0])
    return [(seconds < SMALL * whole, *row) for seconds, *row in found]


def amount_of(recipe: Recipe, config: StageConfig, kind: str, work: Work) -> float:
    """What the plan counts for a unit of the work."""
    if isinstance(work, Training):
        return recipe.plan(config)["trained"] / work.n_units
    return work.amount


def works_of(recipe: Recipe, config: StageConfig) -> Iterator[tuple[str, object, Work]]:
    """(kind, what makes it the same as another, the work) of a stage."""
    trains = config.kind in ("pretrain", "extend", "sft", "distill")
    if trains and config.steps > getattr(config, "policy_steps", 0):
        shape, how = recipe.shape(config), (config.precision, config.optim.matrices, config.kind == "distill")
        yield "trained", (shape, how), Training(recipe, config)
    if config.kind not in ("rl", "distill", "eval", "reject"):
        return
    asked = asked_of(recipe, config)
    if asked.n_prompts:
        wave = "wave", asked.spec, min(asked.n_prompts * asked.group, ROWS)
        yield "sampled", wave, Sampling(asked)
    if asked.n_prompts and config.kind in ("rl", "distill"):
        teacher = recipe.shape(recipe.stage(config.source)) if config.kind == "distill" else None
        yield "learned", config.name, Learning(asked, config, teacher)
    if config.kind == "eval" and config.heldout_bytes != 0:
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
    )
