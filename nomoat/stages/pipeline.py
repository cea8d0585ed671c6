"""Running a recipe: each stage once, in order, into one run directory; what is finished is not done again.

Under a budget, a stage that begins late gets fewer steps; its `stage_start` in the log says how many.
"""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from nomoat.config import ConfigError, DataError, WeightsError
from nomoat.files import sha256
from nomoat.model.spec import Routed
from nomoat.model.transformer import computable
from nomoat.parallel import mesh
from nomoat.parallel.axes import divided
from nomoat.parallel.contention import Polite
from nomoat.parallel.process import release_memory
from nomoat.report.scores import is_done
from nomoat.run import memory
from nomoat.run.directory import Run
from nomoat.run.energy import Energy
from nomoat.run.ledger import read_prices
from nomoat.run.record import libraries, of_recipe, program
from nomoat.run.stop import Interrupted, Stop
from nomoat.stages import inputs, limits
from nomoat.stages.recipe import Recipe, StageConfig, module_of
from nomoat.stages.vetting import Vetting, apart, room, texts, vet_given
from nomoat.train.session import Session
from nomoat.weights.families import chosen


def trainable(recipe: Recipe, name: str) -> None:
    """ConfigError, before anything is trained, for a shape that no stage could compute, part or save."""
    spec = recipe.models[name]
    try:
        computable(spec)
        chosen(spec)
        if isinstance(spec.ffn, Routed) and recipe.mesh:
            divided(spec.ffn.n_routed, recipe.mesh.expert)
    except (ConfigError, WeightsError) as error:
        raise ConfigError(f"models.{name}: {error}") from None


def check(recipe: Recipe, run: Run | None = None, only: Sequence[str] = (), *, whole: bool = True) -> None:
    """What can't be, before anything is written: shapes, places, what the stages in `only` start from, and
    the text of stages that have not begun in `run`, `whole` or just its first document.
    """
    for name in recipe.models:
        trainable(recipe, name)
    for config in recipe.stages:
        if not (run and run.finished(config.name)):
            limits.check(recipe, config)
            if not only or config.name in only:
                limits.check_mesh(recipe, config)
        recipe.plan(config)
        for earlier in _needed(recipe, config) if config.name in only else ():
            if earlier not in only and not (run and run.finished(earlier)):
                raise DataError(
                    f"stage {config.name} needs what stage {earlier} leaves, which has not finished; "
                    f"run {earlier} first, in the same --out, or the whole recipe with `nomoat run`"
                )
    vet_given(recipe, run)
    apart(recipe, run)
    room(recipe, run)
    texts(recipe, run, whole=whole)


def _needed(recipe: Recipe, config: StageConfig) -> list[str]:
    """The stages that one can't begin without."""
    needed = [stage.name for stage in recipe.stages if stage.kind in ("tokenizer", "import")]
    if config.kind not in ("tokenizer", "import", "pretrain", "eval", "export"):
        needed += [name for name in (config.source, getattr(config, "start", None)) if name]
    return [] if config.kind in ("tokenizer", "import") else needed


def run_stages(
    run: Run,
    recipe: Recipe,
    stop: Stop,
    *,
    only: Sequence[str] = (),
    again: bool = False,
    metered: Callable[[Run, Stop, str, int], Any] | None = None,
    accept: bool = False,
) -> list[str]:
    """Runs what is not finished, or just the stages named in `only`, anew with `again`; gives their names.

    `metered(run, stop, device, units)` makes a meter as plan/budget.py has one.  DataError where what a stage
    has read is another text or task by now, unless `accept` goes on with it (stages/inputs.py).  Raises
    run.Interrupted where a signal asked to stop, or the budget is spent; the same call then goes on.
    """
    for name in recipe.models:
        trainable(recipe, name)
    torch.set_num_threads(recipe.threads)
    ranks = started(recipe)
    device = device_class(ranks.device)
    units = ranks.world * (recipe.threads if device == "cpu" else 1)
    ran, observers = [], list(run.observers)
    meter = metered(run, stop, device, units) if metered else None
    if meter:
        run.observers.append(meter.hear)
    try:
        ranks.lead(lambda: _check(run, recipe, accept, device, units))
        energy, vetting = Energy(device, units=units), Vetting(recipe, run)
        for config in recipe.stages:
            if not ranks.broadcast(_due(run, config.name, only, again)):
                continue
            own = _ranks_of(config, ranks, recipe.device)
            session = Session(run, config.name, own, stop, energy, recipe.save_seconds, recipe.kernels)
            vetting.before(session, config)
            if meter:
                config = ranks.broadcast(meter.cut(config))
            _begin(session, config, device, units, again)
            with Polite():
                outputs = module_of(config.kind).run(session, config, recipe)
            session.log("stage_end", outputs=outputs, **memory.held())
            release_memory()
            ranks.barrier()
            ran.append(config.name)
    except Interrupted as stopped:
        raise _told(f"{stopped}{meter.verdict() if meter else ''}", ranks) from None
    finally:
        run.observers = observers
        mesh.stop()
    return ran


def _told(words: str, ranks: mesh.Mesh) -> Interrupted:
    """What ends a run on all ranks, to go on later."""
    stopped = Interrupted(words)
    stopped.n_ranks = ranks.world
    return ranks.known(stopped)


def started(recipe: Recipe) -> mesh.Mesh:
    """The ranks of a recipe's run, which have found the same."""
    return mesh.start(recipe.device, recipe.mesh, partial(facts, recipe))


def facts(recipe: Recipe) -> dict[str, str]:
    """What has to be the same for every rank: the recipe, the program and what it stands on, the files of
    tasks, which each rank runs itself."""
    files = [path for config in recipe.stages for path in inputs.task_files(config)]
    tasks = {f"task file {path}": sha256(path)[:12] for path in files}
    return {"recipe": of_recipe(recipe.table)["sha256"][:12], **program(), **libraries(), **tasks}


def _ranks_of(config: StageConfig, ranks: mesh.Mesh, device: str) -> mesh.Mesh:
    """The ranks as a stage lays them out."""
    axes = limits.axes_of(ranks.axes, config)
    return ranks if axes == ranks.axes else mesh.start(device, axes)


def _due(run: Run, stage: str, only: Sequence[str], again: bool) -> bool:
    """Whether a stage is to run: it is among those that are wanted, and not done or wanted again."""
    return (not only or stage in only) and (again or not is_done(run, stage))


def _begin(session: Session, config: StageConfig, device: str, units: int, again: bool) -> None:
    """The log says that a stage begins, from nothing unless it goes on under a changed recipe; not twice."""
    memory.mark_peak()
    if session.run.begun(config.name) is not None and not again:
        return
    goes_on = session.run.goes_on(config.name)
    if session.leads and not goes_on:
        shutil.rmtree(session.directory)
    session.mesh.barrier()
    if goes_on and config.leaves_weights and not any(session.directory.glob("checkpoints/step_*")):
        session.log("note", text="no checkpoint is left to go on from: its steps are done again")
    session.log("stage_start", config=config.model_dump(by_alias=True), units=units, device=device)
    if session.leads:
        inputs.log_setting(session, config)


def _check(run: Run, recipe: Recipe, accept: bool, device: str, units: int) -> None:
    """What was read is the same, or accepted; where a run goes on elsewhere than it was, the log says it."""
    inputs.check(run, recipe, accept=accept)
    said = [event for event in run.events() if event["kind"] in ("stage_start", "machine")]
    if said and (said[-1].get("device"), said[-1].get("units")) != (device, units):
        run.log("machine", device=device, units=units)


def device_class(device: torch.device) -> str:
    """The class of prices.toml that a device falls into."""
    if device.type == "cpu":
        return "cpu"
    name = torch.cuda.get_device_name(device).lower()
    words = f"-{'-'.join(name.split())}-"
    for known in read_prices().devices:
        if f"-{known}-" in words:
            return known
    raise DataError(f"no prices for the device {name!r}; add it to nomoat/run/prices.toml")
