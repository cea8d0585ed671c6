"""The verb that teaches a model a task: looks, says plan and price, and runs what recipes/teach.toml says."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from nomoat.cli import runs, say
from nomoat.cli.args import Columns, Json, Plan, Sets, Source, said, with_columns
from nomoat.cli.work import resolve, work
from nomoat.config import ConfigError, JsonObject, override, parse, read_recipe
from nomoat.run.directory import Run
from nomoat.run.stop import Interrupted, Stop

if TYPE_CHECKING:
    from nomoat.lab import teach as lab
    from nomoat.lab.look import Look
    from nomoat.report.table import Table
    from nomoat.stages.recipe import Recipe, StageConfig

RECIPE = "teach"


def teach(
    model: Source,
    /,
    *,
    task: Annotated[str, said("what it is to learn: a .py, .jsonl, .json or .csv file, or a family", "FILE")],
    columns: Columns = None,
    out: Annotated[Path | None, said("run directory (default: runs/<task>)", "DIR")] = None,
    minutes: Annotated[float, said("time that all of it may take", "N")] = 30.0,
    set_: Sets = (),
    plan: Plan = False,
    json: Json = False,
) -> int:
    """Teach a model your task: cold start, then reinforcement."""
    from nomoat.tasks import base, find

    task = with_columns(task, columns)
    out = out or Path("runs") / base.short(find.find(task))
    if (out / "recipe.json").exists():
        recipe = _begun(Run.open(out), model, task)
    else:
        tell = say.tables if plan and not json else _aside
        looked, planned, recipe = _planned(model, task, minutes, set_, tell)
        if plan:
            return _tell_plan(looked, planned, recipe) if json else say.tables([planned.price_table()])
        _aside([planned.price_table()])
        _create(out, recipe, looked, planned)
    if plan:
        raise ConfigError(f"{out} has begun, and its plan is made; expected no --plan; leave it out")
    return runs.finish(recipe, *_in_time(recipe, out), json)


def _tell_plan(looked: "Look", planned: "lab.Plan", recipe: "Recipe") -> int:
    plan = {"steps": planned.steps, "price": planned.price(), "reason": planned.reason}
    return say.as_json({"look": looked, "plan": plan, "recipe": recipe.table})


def _aside(tables: "Iterable[Table]") -> None:
    for table in tables:
        say.aside(table.text(say.width()) + "\n")


def _begun(run: Run, model: str, task: str) -> "Recipe":
    """The recipe of a run that goes on; ConfigError for one of another model or task."""
    table = run.recipe
    begun = table["models"].get("main", {}).get("from"), table.get("name")
    tasks = next((stage["tasks"] for stage in table["stages"] if stage["kind"] == "rl"), {})
    if begun != (model, RECIPE) or list(tasks) != [task]:
        raise ConfigError(
            f"{run.root} is a run of {begun[1]} that teaches {begun[0]} {', '.join(tasks) or 'nothing'}; "
            f"expected {model} and {task}; name them, or another --out"
        )
    return resolve(table, run.root)


def _planned(
    model: str, task: str, minutes: float, sets: tuple[str, ...], tell: "Callable[[list[Table]], object]"
) -> "tuple[Look, lab.Plan, Recipe]":
    """What was seen, what is to be done, and its recipe; errors as for a run come before it is loaded."""
    from nomoat.lab import teach as lab
    from nomoat.stages.pipeline import check

    table = lab.named(read_recipe(RECIPE, sets))
    recipe = _resolved(lab.first_table(table, model, task), sets)
    check(recipe, whole=False)
    looked = _look(recipe, task)
    tell([looked.table()])
    table, reason = lab.plan(table, model, task, looked, minutes)
    recipe = _resolved(table, sets)
    check(recipe, whole=False)
    return looked, lab.Plan.of(recipe, looked, minutes, reason), recipe


def _resolved(table: JsonObject, sets: tuple[str, ...]) -> "Recipe":
    """The recipe in a table; what was set goes before what was planned, where its stage is there."""
    names = {stage["name"] for stage in table["stages"]}
    for text in sets:
        place = text.partition(".")[0]
        if place in (*names, "models") or "." not in text.partition("=")[0]:
            override(table, text)
    return resolve(table)


def _look(recipe: "Recipe", task: str) -> "Look":
    import torch

    from nomoat.lab.look import PROBLEMS, look
    from nomoat.parallel.contention import Polite
    from nomoat.parallel.process import release_memory, settle_memory
    from nomoat.serve import loading
    from nomoat.stages.s0_import import finite

    settle_memory()
    torch.set_num_threads(recipe.threads)
    source = recipe.given["main"]
    loaded = loading.load(source, say=say.aside)
    finite(source, loaded.model)
    say.speed()
    say.aside(f"looking at what {source} does with {PROBLEMS} problems of {task}")
    with Polite():
        looked = look(loaded.model, loaded.tokenizer, task, recipe)
    del loaded
    release_memory()
    return looked


def _create(out: Path, recipe: "Recipe", looked: "Look", planned: "lab.Plan") -> None:
    """The run, its log beginning with what was seen, how long it may train, and what stages are to take."""
    run = Run.create(out, recipe.table)
    seconds = {step.stage: step.seconds for step in planned.steps}
    with run.locked():
        run.log("look", stage=None, **planned.times, planned_seconds=seconds, **asdict(looked))


class Clock:
    """The time for training, a meter as plan/budget.py has one: reinforcement begins with the steps that what
    is left allows, and is asked to stop behind one of them when nothing is left."""

    def __init__(self, run: Run, stop: Stop, device: str, units: int):
        self.run, self.stop = run, stop
        (self.look,) = run.events("look")
        self.left = self.look["train_seconds"]
        for event in run.events():
            self.left -= self._seconds(event)

    def _seconds(self, event: JsonObject) -> float:
        learns = event["kind"] in ("step", "work") and event.get("stage") != "eval"
        return (event.get("seconds") or 0.0) if learns else 0.0

    def hear(self, event: JsonObject) -> None:
        self.left -= self._seconds(event)
        if self.left < 0 and event["kind"] == "step" and event["stage"] == "rl":
            self.stop.requested = True

    def cut(self, config: "StageConfig") -> "StageConfig":
        """A stage as it began, or as the time allows."""
        if begun := self.run.begun(config.name):
            return parse(type(config), begun["config"], config.name)
        if config.name != "rl":
            return config
        n_steps = int((self.left - self.look["kept_seconds"]) / self.look["step_seconds"])
        return config.model_copy(update={"steps": max(min(n_steps, config.steps), 1)})

    def verdict(self) -> str:
        return ""

    @property
    def over(self) -> bool:
        """Whether it was the time that asked, and no signal."""
        return self.left < 0 and self.stop.n_heard == 0


def _in_time(recipe: "Recipe", out: Path) -> tuple[list[str], Run | None]:
    """The stages that ran; where the time is spent, reinforcement ends with the steps that it has done."""
    clocks = []

    def metered(*of_run: Any) -> Clock:
        clocks.append(Clock(*of_run))
        return clocks[-1]

    try:
        return work(recipe, out, metered=metered)
    except Interrupted:
        run = Run.open(out)
        if not clocks[-1].over or run.finished("rl"):
            raise
        done = run.curve("rl")[-1]["step"]
    say.aside(f"the time for training is spent: reinforcement ends behind step {done}")
    table = run.recipe
    override(table, f"rl.steps={done}")
    return work(resolve(table, out), out, goes_on=True)
