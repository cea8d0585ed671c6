"""What verbs do with recipes and runs: read, resolve, forecast, run stages with progress."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nomoat.cli import say
from nomoat.cli.args import with_columns
from nomoat.config import ConfigError, JsonObject, UserError, look_up
from nomoat.run.directory import Run
from nomoat.run.log import last_plan
from nomoat.run.stop import Stop, silent

if TYPE_CHECKING:
    from nomoat.parallel.faults import Guard
    from nomoat.parallel.mesh import Mesh
    from nomoat.plan.outlook import Outlook
    from nomoat.report.progress import Watch
    from nomoat.stages.recipe import Recipe

SAMPLED = {"rl", "reject", "distill", "eval"}  # kinds of stages whose models answer


def stage_names(table: JsonObject, kind: str, name: str | None = None) -> list[str]:
    """The stages of a kind in a recipe's table, or the one that was named."""
    stages = [stage for stage in table.get("stages", []) if isinstance(stage, dict)]
    names = [stage.get("name") or kind for stage in stages if stage.get("kind") == kind]
    if not names:
        raise ConfigError(f"the recipe has no stage of kind `{kind}`; add one, or use another verb")
    if name is None:
        return names
    by_name = dict(zip(names, names))
    return [look_up(name, by_name, f"no {kind} stage `{name}` in the recipe")]


def teach(table: JsonObject, task: str | None, columns: str | None = None) -> JsonObject:
    """The recipe with one task in the place of every stage's own."""
    if task is None and columns is not None:
        raise ConfigError(f"--columns {columns} without --task; expected a file of problems; name it")
    if task is not None:
        from nomoat.tasks import find

        task = with_columns(task, columns)
        for stage in table.get("stages", []):
            if stage.get("tasks"):
                stage["tasks"] = {task: list(find.find(task).levels)}
    return table


def resolve(table: JsonObject, out: Path | None = None) -> "Recipe":
    """The recipe in a table; where a run has begun in `out`, as that run goes on with it.  One with a budget
    is cut to it by what a probe measures."""
    from nomoat.plan import budget
    from nomoat.plan.probe import machine_here

    begun = out is not None and (out / "recipe.json").exists()
    return budget.resolve(table, Run.open(out).recipe if begun else None, machine_here)


def forecast(recipe: "Recipe", only: Sequence[str], as_json: bool, **machine: Any) -> int:
    """Says what stages would cost; errors as for a run, but of texts just the first document is read.

    `machine` as machine_of takes it; without one, this machine, as a probe measures it.
    """
    from nomoat.plan.forecast import forecast
    from nomoat.plan.machine import machine_of
    from nomoat.plan.probe import machine_here
    from nomoat.stages.pipeline import check

    check(recipe, whole=False)
    elsewhere = any(value is not None for value in machine.values())
    where = machine_of(recipe, **machine) if elsewhere else machine_here(recipe, only)
    estimate = forecast(recipe, only, where)
    return say.as_json(estimate) if as_json else say.result(estimate.table().text(say.width()))


def say_begun(recipe: "Recipe", out: Path, goes_on: bool) -> None:
    """Beside a plan, why the run that has begun in `out` would not go on under this recipe."""
    if not (out / "recipe.json").exists():
        return
    run = Run.open(out)
    try:
        run.check_goes_on(recipe.table, _today(run), changed=goes_on)
    except ConfigError as error:
        say.aside(f"planned as a new run, since {error}")


def work(
    recipe: "Recipe",
    out: Path,
    only: Sequence[str] = (),
    source: Path | None = None,
    goes_on: bool = False,
    *,
    again: bool = False,
    metered: Callable[[Run, Stop, str, int], Any] | None = None,
) -> tuple[list[str], Run | None]:
    """Runs stages with progress on stderr: those that ran, and the run to read, which is None on ranks that
    don't lead.

    A new run begins with what the run in `source` has done of the same recipe.  `goes_on`: a run that has
    begun takes a changed recipe, texts and tasks as far as it can, and its log says so.  `again` as in
    run_stages.  `metered` gives what stands in the place of a budget's meter.
    """
    from nomoat.parallel import faults, mesh
    from nomoat.parallel.process import settle_memory
    from nomoat.report.scores import is_done
    from nomoat.stages.pipeline import check, run_stages, started

    settle_memory()
    with _guarded(recipe) as guard:
        laid = laid_out(recipe, mesh.n_ranks())
        ranks = started(laid)
        leads = ranks.rank == 0
        begun = source or (out if (out / "recipe.json").exists() else None)
        ranks.lead(lambda: check(laid, Run.open(begun) if begun else None, only))
        faults.meet(ranks, out, say.aside)
        run = ranks.together(lambda: _begin(recipe, out, source, goes_on) if leads else None)
        run = run or Run.open(out, write=True)
        names = [stage.name for stage in recipe.stages if not only or stage.name in only]
        finished = {name for name in names if not again and is_done(run, name)}
        with _stopping(ranks) as stop, contextlib.ExitStack() as stack:
            if leads:
                stack.enter_context(run.locked())
            if leads and finished != set(names):
                watch = _watch(recipe, run, ranks, names, finished)
                run.observers += [stack.enter_context(watch), guard.hear]
            how = {"only": only, "again": again, "accept": goes_on}
            ran = run_stages(run, laid, stop, metered=metered or _metered(recipe), **how)
        return ran, run if leads else None


def _metered(recipe: "Recipe") -> Callable[..., Any] | None:
    """What makes the meter of a recipe with a budget."""
    from nomoat.plan.budget import Meter

    return functools.partial(Meter, recipe) if recipe.limit else None


def _say_notes(recipe: "Recipe") -> None:
    """What is left out of files of problems, and what of them is not read."""
    from nomoat.tasks import find

    tables = [table for stage in recipe.stages for table in (getattr(stage, "tasks", None),) if table]
    for name in dict.fromkeys(name for table in tables for name in table):
        for note in getattr(find.find(name), "notes", ()):
            say.aside(f"{name}: {note}")


def laid_out(recipe: "Recipe", world: int) -> "Recipe":
    """The recipe with the mesh that `nomoat plan` prints for so many ranks, where it names none; a run keeps
    it without, so that it may go on with other ranks."""
    from nomoat.plan.choice import choose
    from nomoat.plan.machine import machine_of

    if world < 2 or recipe.mesh is not None:
        return recipe
    return recipe.model_copy(update={"mesh": choose(recipe, world, machine_of(recipe).device).mesh})


@contextlib.contextmanager
def _guarded(recipe: "Recipe") -> "Iterator[Guard]":
    """What notices faults of other ranks, where there are any; at the end, no rank of a group any more."""
    from nomoat.parallel import faults, mesh
    from nomoat.parallel.axes import MeshConfig

    rank, world = mesh.place()
    axes = recipe.mesh or MeshConfig()
    connect = functools.partial(mesh.store_beside, axes.silence_seconds)
    guard = faults.Guard(rank, world, connect, axes.silence_seconds, axes.hang_seconds)
    try:
        with guard if world > 1 else contextlib.nullcontext():
            yield guard
    finally:
        mesh.stop()


def _stopping(ranks: "Mesh") -> Stop:
    """What hears signals; one of several ranks ends, at the latest, before its launcher kills it."""
    from nomoat.parallel import faults

    late = functools.partial(faults.end, f"not done {faults.LEAVE_SECONDS:.0f} s after a signal")
    tell = say.aside if ranks.speaks else silent
    return Stop(tell, *((late, faults.LEAVE_SECONDS) if ranks.world > 1 else ()))


def _watch(recipe: "Recipe", run: Run, ranks: "Mesh", names: Sequence[str], finished: set[str]) -> "Watch":
    """What shows the progress, and what is left."""
    from nomoat.report.progress import Watch
    from nomoat.stages.pipeline import device_class

    _tell_speed(recipe, {*names} - finished, ranks.device.type)
    units = recipe.threads if ranks.device.type == "cpu" else ranks.world
    to_do = [name for name in names if name not in finished]
    outlook = _outlook(recipe, run, to_do) if ranks.world == 1 else None
    how = {"units": units, "device": device_class(ranks.device), "outlook": outlook}
    return Watch(say.progress(), names, finished, **how)


def _tell_speed(recipe: "Recipe", names: set[str], device: str) -> None:
    """Where models will answer on the processor."""
    kinds = {stage.kind for stage in recipe.stages if stage.name in names}
    if device == "cpu" and kinds & SAMPLED:
        say.speed()


def _outlook(recipe: "Recipe", run: Run, names: Sequence[str]) -> "Outlook":
    """What is left of a run, by the rates in its log; one that has none for as many threads is measured now,
    if there is more to do than to evaluate and to export."""
    from nomoat.plan.outlook import Outlook, planned
    from nomoat.plan.probe import machine_here
    from nomoat.plan.rates import measured

    known = measured(run.events())
    to_train = any(recipe.stage(name).kind not in ("eval", "export") for name in names)
    if to_train and (known is None or known.threads != recipe.threads):
        rates = machine_here(recipe).rates
        if rates:
            run.log("rates", **rates.event(), cpu_seconds=time.process_time())
    if not last_plan(run.events()):
        run.log("plan", stages=planned(recipe, run))
    outlook = Outlook(recipe, run, names)
    say.aside(f"estimated: {outlook.says()}")
    return outlook


def _begin(recipe: "Recipe", out: Path, source: Path | None, goes_on: bool) -> Run:
    """The run in `out`, new or begun; it says what of its files of problems is not read."""
    _say_notes(recipe)
    then = _today(Run.open(out)) if (out / "recipe.json").exists() else None
    if then is not None and goes_on:
        return _go_on(recipe, out, then)
    if source is None:
        return Run.create(out, recipe.table, then)
    from nomoat.stages import inputs

    done = Run.open(source)
    stale = {str(change): change.stage for change in inputs.changes(done, resolve(done.recipe))}
    run = Run.fork(done, out, recipe.table, _today(done), set(stale.values()))
    kept = [stage.name for stage in recipe.stages if run.finished(stage.name)]
    say.aside(f"taken over from {source}: {', '.join(kept) or 'nothing, no stage is the same'}")
    if stale:
        say.aside("\n  ".join(["changed since, and so done again:", *stale]))
    return run


def _go_on(recipe: "Recipe", out: Path, then: JsonObject) -> Run:
    """The run in `out` under a changed recipe."""
    n_before = len(Run.open(out).events("continue"))
    run = Run.go_on(out, recipe.table, then)
    for event in run.events("continue")[n_before:]:
        say.aside("\n  ".join([f"{out} goes on, not to the same bits:", *event["changes"]]))
        if event["again"]:
            say.aside(f"again from nothing: {', '.join(event['again'])}")
    return run


def _today(run: Run) -> JsonObject:
    """A run's recipe with the defaults of today; as it is, where it can't be read any more."""
    try:
        return resolve(run.recipe).table
    except UserError:
        return run.recipe
