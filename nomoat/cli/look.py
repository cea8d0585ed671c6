"""The verbs that look at what was done: receipt, report, learning, rollouts, doctor."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from nomoat.cli import say
from nomoat.cli.args import Json, RlStage, RunDir, said
from nomoat.cli.work import stage_names
from nomoat.config import DataError, JsonObject
from nomoat.run.directory import Run


def receipt(directory: RunDir, /, *, json: Json = False) -> int:
    """What each stage of a run cost."""
    from nomoat.plan.forecast import against_plan
    from nomoat.report.receipt import receipt_of, receipt_table, shares_of, shares_table

    run = Run.open(directory)
    if json:
        return say.as_json(receipt_as_json(run))
    bill = receipt_of(run)
    return say.tables((receipt_table(bill), against_plan(run), shares_table(shares_of(run, bill))))


def receipt_as_json(run: Run) -> JsonObject:
    """A run's receipt and its shares."""
    from nomoat.report.receipt import receipt_of, shares_of

    bill = receipt_of(run)
    return {"run": str(run.root), **asdict(bill), "shares": shares_of(run, bill)}


def report(directory: RunDir, /) -> int:
    """Write RUN/report.html again."""
    return say.result(write_page(Run.open(directory)))


def write_page(run: Run) -> Path:
    """RUN/report.html."""
    from nomoat.report import page

    return page.write(run)


def learning(directory: RunDir, /, *, stage: RlStage = None, json: Json = False) -> int:
    """Is it learning?  One screen, while it runs or after."""
    from nomoat.report.learning import screen

    run = Run.open(directory)
    shown = screen(run, _rl_stage(run, stage))
    if json:
        return say.as_json(shown.to_json())
    return say.result(shown.text(say.width()))


def rollouts(
    directory: RunDir,
    /,
    *,
    stage: RlStage = None,
    step: Annotated[int | None, said("only of this step", "N")] = None,
    family: Annotated[str | None, said("only of this family", "NAME")] = None,
    only: Annotated[Literal["all", "right", "wrong", "doubted"], said("which ones")] = "all",
    limit: Annotated[int, said("how many, the newest", "N", aliases=["-n"])] = 5,
    json: Json = False,
) -> int:
    """Read what the policy wrote, and what it got for it."""
    from nomoat.report import rollouts

    run = Run.open(directory)
    records = rollouts.read(run, _rl_stage(run, stage), step=step, family=family, only=only, limit=limit)
    if json:
        return say.as_json_lines(list(records))
    return say.result(rollouts.show(list(records), say.width()))


def _rl_stage(run: Run, name: str | None) -> str:
    """A stage of kind rl by name, or the last one that has begun."""
    names = stage_names(run.recipe, "rl", name)
    begun = [event["stage"] for event in run.events("stage_start") if event["stage"] in names]
    if not begun:
        raise DataError(f"{run.root}: no step of {', '.join(names)} yet; run it first")
    return begun[-1]


def doctor() -> int:
    """Which layers of the sandbox hold here; tries the attacks."""
    from nomoat import sandbox
    from nomoat.report.table import Table
    from nomoat.sandbox import attacks

    layers = [(name, "active" if active else "absent", detail) for name, active, detail in attacks.layers()]
    table = Table("Sandbox", ("layer", "here", "detail"), layers, words=("here", "detail"))
    say.result(f"{table.text(say.width())}\n\nmodel-written code runs under: {sandbox.backend()}\n")
    tried = attacks.self_test(sandbox.backend())
    rows = [(attack, "held" if held else "BREACHED", detail) for attack, held, detail in tried]
    header = ("attack", "outcome", "its program")
    say.tables([Table("Attacks", header, rows, words=header[1:])])
    n_held = sum(held for _, held, _ in tried)
    say.result(f"{n_held} of {len(tried)} attacks held")
    return 0 if n_held == len(tried) else 2
