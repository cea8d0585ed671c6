"""The verbs that run stages: run, one for each kind of stage, eval, export."""

import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from nomoat.cli import look, say
from nomoat.cli.args import Columns, Continue, From, Json, Plan, Sets, TaskFile, said
from nomoat.cli.work import forecast, resolve, say_begun, stage_names, teach, work
from nomoat.config import LEFT_OUT, ConfigError, JsonObject, UserError, WeightsError, override, read_recipe
from nomoat.files import sha256
from nomoat.run.directory import Run
from nomoat.run.log import last_scores

if TYPE_CHECKING:
    from nomoat.stages.recipe import Recipe

KINDS = {  # of stages that have a verb of their own, and what it says that it does
    "tokenizer": "Train the tokenizer.",
    "pretrain": "Train on prose and worked tasks.",
    "extend": "Lengthen the context by YaRN.",
    "sft": "Fine-tune on worked solutions and talk.",
    "rl": "Reinforce what programs decide to be right.",
    "reject": "Keep what a model answers right.",
    "distill": "Teach a smaller student.",
}
OF_THE_RECIPE = ("seed", "device", "threads", "save_seconds")  # keys that are no stage's


def run(
    recipe: Positional[Annotated[Path, said("a file, or one that ships: cpu, r1, …", "RECIPE")]],
    /,
    *,
    out: Annotated[Path | None, said("run directory (default: runs/<recipe name>)", "DIR")] = None,
    from_: From = None,
    task: TaskFile = None,
    columns: Columns = None,
    continue_: Continue = False,
    set_: Sets = (),
    plan: Plan = False,
    json: Json = False,
) -> int:
    """Run a recipe, all its stages; run again to go on."""
    table = teach(read_recipe(recipe, set_), task, columns)
    out = out or _default_out(table)
    resolved = resolve(table, out)
    if plan:
        say_begun(resolved, out, continue_)
        return forecast(resolved, [], json)
    if resolved.fitted and not (out / "recipe.json").exists():
        say.aside(f"cut to its budget: {resolved.fitted}")
    return finish(resolved, *work(resolved, out, source=from_, goes_on=continue_), json)


def finish(recipe: "Recipe", ran: Sequence[str], done: Run | None, as_json: bool) -> int:
    """What is said behind a whole run; nothing on ranks that don't lead."""
    if done is None:
        return 0
    _as_they_were_exported(done, [stage.name for stage in recipe.stages if stage.kind == "export"])
    if not ran:
        _as_they_were_left(done, done.all_weights())
        say.aside(f"{done.root} is done: every stage of {recipe.name} has finished")
    page = str(look.write_page(done))
    if as_json:
        return say.as_json(
            {"run": str(done.root), "ran": ran, "report": page, "receipt": look.receipt_as_json(done)}
        )
    return _tell(done, recipe.name, page)


def _default_out(table: JsonObject) -> Path:
    return Path("runs") / str(table.get("name"))


def _tell(run: Run, recipe_name: str, page: str) -> int:
    """What a run cost and scored, and what one may do next."""
    from nomoat.plan.forecast import against_plan
    from nomoat.report.receipt import receipt_of, receipt_table
    from nomoat.report.scores import score_tables, scores_of

    tables = score_tables(scores_of(run.events()))
    say.tables((receipt_table(receipt_of(run)), against_plan(run), *tables))
    say.result(f"report: {page}\n\nnext:")
    name, export_dir = shlex.quote(str(run.root)), shlex.quote(f"{recipe_name}-model")
    commands = {
        f"nomoat serve {name}": "talk to it and look at its run, in a browser",
        f"nomoat chat {name}": "talk to it here",
        f"nomoat receipt {name}": "what it cost",
        f"nomoat eval {name} --json": "what it scores",
        f"nomoat report {name}": "write the page again",
        f"nomoat export {name} --out {export_dir}": "for transformers",
    }
    for command, what in commands.items():
        say.result(f"  {command:<44}  # {what}")
    return 0


def stage_verb(kind: str) -> Callable[..., int]:
    """The verb that runs the stages of one kind alone."""

    def verb(
        *,
        out: Annotated[
            Path | None, said("run directory; earlier stages are read from it", "DIR")
        ] = None,
        recipe: Annotated[
            Path | None, said("recipe file (default: that of the run in --out)", "FILE")
        ] = None,
        name: Annotated[
            str | None, said("only the stage of this name (default: all)", "STAGE")
        ] = None,
        from_: From = None,
        task: TaskFile = None,
        columns: Columns = None,
        continue_: Continue = False,
        set_: Annotated[
            Sets, said("change the recipe: key=value of this stage, or stage.key=value", name="set")
        ] = (),
        plan: Plan = False,
        json: Json = False,
    ) -> int:
        if recipe is None and out is None:
            raise ConfigError(
                "expected --recipe, --out or both: a recipe file, or a run whose recipe goes on"
            )
        table = read_recipe(recipe) if recipe is not None else Run.open(out).recipe
        names = stage_names(table, kind, name)
        if task is not None:  # what comes before is learned on it too
            table = teach(table, task, columns)
            every = _every_stage(table)
            names = every[: every.index(names[-1]) + 1]
        for text in set_:
            _override(table, names, text)
        directory = out or _default_out(table)
        resolved = resolve(table, directory)
        if plan:
            say_begun(resolved, directory, continue_)
            return forecast(resolved, names, json)
        return _show_paths(*work(resolved, directory, names, from_, continue_), names, json)

    verb.__doc__ = KINDS[kind]
    return verb


def _every_stage(table: JsonObject) -> list[str]:
    return [stage.get("name") or stage.get("kind") for stage in table.get("stages", [])]


def _override(table: JsonObject, names: Sequence[str], text: str) -> None:
    """`key=value` means each of the stages, unless its first word is a place of the recipe."""
    first, dot, _ = text.partition("=")[0].strip().partition(".")
    if first in ((*_every_stage(table), "models", *LEFT_OUT) if dot else OF_THE_RECIPE):
        override(table, text)
    else:
        for name in names:
            override(table, f"{name}.{text}")


def evaluate(directory: Path, as_json: bool, name: str | None, plan: bool, again: bool) -> int:
    """Scores of a run's models, measured now if they are not yet, or not as they are now."""
    from nomoat.report.scores import is_done, measurable, score_tables, scores_of

    run = Run.open(directory)
    names = stage_names(run.recipe, "eval", name)
    if plan:
        return forecast(resolve(run.recipe), names, as_json)
    names = [name for name in names if measurable(run, name)] or names[:1]
    _as_they_were_left(run, {model for name in names for model in measurable(run, name)})
    if again or not all(is_done(run, name) for name in names):
        _, done = work(resolve(run.recipe), directory, names, again=again)
        if done is None:
            return 0
        _renew_page(run)
    _say_changes(run, names)
    events = [event for event in run.events() if event.get("stage") in names]
    if not as_json:
        return say.tables(score_tables(scores_of(events)))
    means = {}
    for name in names:
        means |= run.finished(name)["outputs"].get("means", {})
    hidden = ("kind", "t", "stage")
    scores = [{k: v for k, v in event.items() if k not in hidden} for event in last_scores(events)]
    return say.as_json({"run": str(directory), "means": means, "scores": scores})


def _renew_page(run: Run) -> None:
    """A report that was written says what has been done since, too."""
    if (run.root / "report.html").exists():
        look.write_page(run)


def _say_changes(run: Run, names: Collection[str]) -> None:
    """What is another thing by now than when it was measured with, or gone."""
    from nomoat.stages import inputs

    try:
        changes = inputs.changes(run, resolve(run.recipe))
    except UserError as gone:
        say.aside(f"measured before this: {gone}")
        return
    changed = [str(change) for change in changes if change.stage in names]
    if changed:
        say.aside("\n  ".join(["measured before this changed, and not since:", *changed]))


def _as_they_were_left(run: Run, models: Collection[str]) -> None:
    """WeightsError where those of a model are others by now than its stage left."""
    for name, left in run.all_weights().items():
        if name in models:
            left.check()


def export(directory: Path, stage: str | None, as_json: bool) -> int:
    """Do the export stages of a run; the paths that they left."""
    run = Run.open(directory)
    _as_they_were_left(run, run.all_weights())
    names = stage_names(run.recipe, "export", stage)
    _as_they_were_exported(run, names)
    return _show_paths(*work(resolve(run.recipe), directory, names), names, as_json)


def _as_they_were_exported(run: Run, names: Sequence[str]) -> None:
    """WeightsError where what an export left has changed since; what is gone is exported again."""
    for name in filter(run.finished, names):
        outputs = run.finished(name)["outputs"]
        for place, digest in zip(outputs.get("exports", ()), outputs.get("sha256s", ())):
            path = run.root / place
            if path.is_dir() and sha256(path) != digest:
                raise WeightsError(
                    f"{path} is not what stage {name} left; expected its weights, configuration and "
                    "tokenizer as they were; move it away, and run the command again to export them anew"
                )


def _show_paths(ran: Sequence[str], run: Run | None, names: Sequence[str], as_json: bool) -> int:
    """The paths that stages left."""
    if run is None:
        return 0
    if not ran:
        say.aside(f"done already: {', '.join(names)} in {run.root}")
    else:
        _renew_page(run)
    paths = {}
    for name in names:
        outputs = run.finished(name)["outputs"]
        left = [outputs[key] for key in ("model", "tokenizer") if key in outputs]
        left += outputs.get("exports", [])
        paths[name] = [str(run.root / path) for path in left]
    if as_json:
        return say.as_json(paths)
    return say.result("\n".join(path for of_stage in paths.values() for path in of_stage))
