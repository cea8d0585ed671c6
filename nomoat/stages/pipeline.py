"""Running a recipe: each stage once, in order, into one run directory; what is finished is not done again.

Under a budget, a stage that begins late gets fewer steps; its `stage_start` in the log says how many.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from nomoat.config import ConfigError, DataError, WeightsError
from nomoat.model.spec import Spec
from nomoat.model.transformer import computable
from nomoat.parallel import mesh
from nomoat.parallel.contention import Polite
from nomoat.parallel.process import release_memory
from nomoat.run.directory import Run
from nomoat.run.energy import Energy
from nomoat.run.ledger import read_prices
from nomoat.run.stop import Interrupted, Stop
from nomoat.stages.recipe import Recipe, module_of
from nomoat.train.session import Session
from nomoat.weights.families import chosen


def trainable(name: str, spec: Spec) -> None:
    """ConfigError, before anything is trained, for a shape that no stage could compute or save."""
    try:
        computable(spec)
        chosen(spec)
    except (ConfigError, WeightsError) as error:
        raise ConfigError(f"models.{name}: {error}") from None


def run_stages(
    run: Run,
    recipe: Recipe,
    stop: Stop,
    *,
    only: Sequence[str] = (),
    metered: Callable[[str, int], Any] | None = None,
) -> list[str]:
    """Runs what is not finished, or just the stages named in `only`; gives the names of those that ran.

    `metered(device, units)` gives the meter of a run with a budget (plan/budget.py).

    Raises run.Interrupted where a signal asked to stop, or the budget is spent; the same call then goes on.
    """
    for name, spec in recipe.models.items():
        trainable(name, spec)
    torch.set_num_threads(recipe.threads)
    ranks = mesh.start(recipe.device)
    device = device_class(ranks.device)
    units = ranks.world * (recipe.threads if device == "cpu" else 1)
    ran, observers = [], list(run.observers)
    meter = metered(device, units) if metered else None
    if meter:
        run.observers.append(meter.hear)
    try:
        energy = Energy(device, units=units)
        for config in recipe.stages:
            if only and config.name not in only or ranks.broadcast(run.finished(config.name) is not None):
                continue
            session = Session(run, config.name, ranks, stop, energy, recipe.save_seconds, recipe.kernels)
            session.check_stop()
            if meter:
                config = ranks.broadcast(meter.cut(config))
            if not run.events("stage_start", config.name):
                session.log(
                    "stage_start", config=config.model_dump(by_alias=True), units=units, device=device
                )
            with Polite():
                outputs = module_of(config.kind).run(session, config, recipe)
            release_memory()
            session.log("stage_end", outputs=outputs)
            ranks.barrier()
            ran.append(config.name)
    except Interrupted as stopped:
        raise Interrupted(f"{stopped}{meter.verdict() if meter else ''}") from None
    finally:
        run.observers = observers
        mesh.stop()
    return ran


def device_class(device: torch.device) -> str:
    """The class of prices.toml that a device falls into."""
    if device.type == "cpu":
        return "cpu"
    name = torch.cuda.get_device_name(device).lower()
    for known in read_prices().devices:
        if known in name:
            return known
    raise DataError(f"no prices for the device {name!r}; add it to nomoat/run/prices.toml")
