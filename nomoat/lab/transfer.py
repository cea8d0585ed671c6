"""How far does a stage of training carry?  A run's models before and after it, and controls, on one suite."""

import json
from collections.abc import Callable

import torch

from nomoat.evals import rings
from nomoat.evals.bits import held_out
from nomoat.evals.comparison import summary
from nomoat.evals.problems import Candidate
from nomoat.evals.rings import Config, Suite, Taught
from nomoat.evals.transfer import Examination, Result
from nomoat.files import write_whole
from nomoat.parallel import mesh
from nomoat.parallel.process import settle_memory
from nomoat.report.receipt import receipt_of
from nomoat.run.directory import Run
from nomoat.run.energy import Energy
from nomoat.run.ledger import Row
from nomoat.run.stop import Stop, silent
from nomoat.stages.models import load_model, load_tokenizer, to_device
from nomoat.stages.pipeline import device_class
from nomoat.stages.recipe import Recipe
from nomoat.train.session import Session

COST = ("flops_executed", "device_seconds", "joules", "money", "currency")


def suite_of(config: Config, recipe: Recipe) -> Suite:
    """The problems about what a recipe teaches."""
    tasks = [getattr(stage, "tasks", None) or {} for stage in recipe.stages]
    shown = frozenset(
        (family, level) for table in tasks for family, levels in table.items() for level in levels
    )
    return rings.suite(config, Taught(recipe.stage(config.after).tasks, shown))


def measured(run: Run, config: Config, recipe: Recipe, say: Callable[[str], None] = silent) -> Result:
    """The report of a run, from RUN/transfer.json or transfer-quick.json if its weights were measured
    already.

    `say` hears at once that a signal came.  The run must not be locked by another process.  Raises
    run.Interrupted between two rings.
    """
    weights = {name: left.sha256 for name, left in run.all_weights().items()}
    path = run.root / ("transfer-quick.json" if config.quick else "transfer.json")
    suite = suite_of(config, recipe)
    if path.exists():
        result = json.loads(path.read_text("utf-8"))
        measured_on = result.get("config"), result.get("suite"), result.get("weights", weights)
        if measured_on == (config.model_dump(), suite.fingerprint, weights):
            return result
    settle_memory()
    run = Run.open(run.root, write=True)
    with Stop(say) as stop, run.locked():
        result = measure(run, config, recipe, suite, stop) | {"weights": weights}
    write_whole(path, json.dumps(result, indent=1))
    return result


def measure(run: Run, config: Config, recipe: Recipe, suite: Suite, stop: Stop) -> Result:
    """The answers of every model and what follows from them, as JSON data; costs are logged as `transfer`."""
    torch.set_num_threads(recipe.threads)
    ranks = mesh.start(recipe.device, recipe.mesh)
    try:
        energy = Energy(device_class(ranks.device), units=recipe.threads if ranks.device.type == "cpu" else 1)
        session = Session(run, "transfer", ranks, stop, energy, recipe.save_seconds)
        costs = {row.stage: row for row in receipt_of(run).rows}
        models = _examined(session, recipe, suite, costs)
    finally:
        mesh.stop()
    cost = costs.get(config.after)
    result = {
        "config": config.model_dump(),
        "suite": suite.fingerprint,
        "seed": run.seed,
        "commit": run.record.get("commit"),
        "samples": suite.config.samples,
        "notes": suite.notes,
        "items": [item.to_json() for item in suite.items],
        "models": models,
        "cost": cost and {key: getattr(cost, key) for key in COST},
        "guessed": {"unseen families": rings.modal_share([i for i in suite.items if i.ring == "R3"])},
    }
    return {**result, **summary([result])}


def _examined(session: Session, recipe: Recipe, suite: Suite, costs: dict[str, Row]) -> Result:
    """What each model answered, and the FLOPs that went into it."""
    config, tokenizer = suite.config, load_tokenizer(session.run)
    held = held_out(config.heldout_bytes)
    trained = recipe.stage(config.after)
    longest = config.max_new_tokens or getattr(trained, "max_new_tokens", 96) * 3 // 2
    think = getattr(trained, "think", None)
    models = {}
    for name in dict.fromkeys((config.before, config.after, *config.controls)):
        model = to_device(load_model(session, name), session, "fp32").eval()
        flops = _flops(recipe, name, costs)
        candidate = Candidate(model, tokenizer, longest, think)
        examination = Examination(session, suite, name, candidate)
        result = examination.result(held)
        models[name] = {**result, "flops": flops}
    return models


def _flops(recipe: Recipe, name: str, costs: dict[str, Row]) -> float:
    """What went into a model; what it read is part of that."""
    read = getattr(recipe.stage(name), "samples", None)
    made = [name, *read] if isinstance(read, list) else [name]
    return sum(costs[stage].flops_executed for stage in made if stage in costs)
