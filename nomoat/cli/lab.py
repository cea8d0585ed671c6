"""The verbs that measure and compare: plan, transfer, compare, truth, scaling, bench, chaos."""

import importlib
import importlib.util
import json as jsons
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from nomoat.cli import say
from nomoat.cli.args import Budget, Json, KeptIn, Seeds, Sets, Text, Threads, only, said
from nomoat.cli.work import forecast, resolve, stage_names, work
from nomoat.config import ConfigError, read_recipe
from nomoat.files import write_whole
from nomoat.run.directory import Run


def plan(
    recipe: Positional[Annotated[Path | None, said("a recipe, or name a model", "[RECIPE]")]] = None,
    /,
    *,
    model: Annotated[str | None, said("a run of docs/plan.md, such as deepseek-v3", "NAME")] = None,
    gpu: Annotated[
        str | None, said("such as h800 (default: as published, or as the recipe says)", "NAME")
    ] = None,
    gpus: Annotated[int | None, said("how many", "N")] = None,
    tokens: Annotated[str | None, said("of a model, such as 14.8T", "N")] = None,
    context: Annotated[int | None, said("of a model: tokens of a training row", "N")] = None,
    mfu: Annotated[
        float | None, said("share of the peak (default: fitted or measured)", "X")
    ] = None,
    list_: Annotated[bool, said("print the models and devices that are known", name="list")] = False,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Estimate what a recipe or a known model will cost."""
    from nomoat.plan.cost import known, parse_quantity

    if list_:
        only(plan, locals(), "plan --list", ["list_", "json"])
        return say.as_json(known()) if json else say.tables(known())
    if (recipe is None) == (model is None):
        raise ConfigError(
            "expected a recipe or a --model, one of them: `nomoat plan cpu`; `nomoat plan --list` names "
            "models"
        )
    if recipe is not None:
        if tokens is not None or context is not None:
            raise ConfigError(
                "--tokens and --context are of a --model; a recipe has them in its stages: change them by "
                "--set, such as --set pretrain.steps=1000 pretrain.context=512"
            )
        return forecast(resolve(read_recipe(recipe, set_)), [], json, gpu=gpu, gpus=gpus, mfu=mfu)
    if set_:
        raise ConfigError(f"--set {set_[0]} is of a recipe; a --model has --tokens, --context, --gpu, --gpus")
    n_tokens = parse_quantity(tokens) if tokens else None
    return _plan_model(model, json, tokens=n_tokens, gpu=gpu, gpus=gpus, context=context, mfu=mfu)


def _plan_model(model: str, json: bool, **changes: Any) -> int:
    """Says what a published run would cost with changes, as plan_published takes them."""
    from nomoat.plan.cost import find_published, plan_published, table_rows
    from nomoat.report.table import Table

    published = find_published(model)
    estimate = plan_published(published, **changes)
    if json:
        return say.as_json(estimate)
    header = ("what", "estimate", "published", "by")
    rows = table_rows(estimate, published)
    table = Table(f"Plan for {model}, estimated", header, rows, words=("by",))
    return say.result(table.text(say.width()))


def transfer(
    directories: Positional[
        Annotated[tuple[Path, ...], said("run directories; several seeds count together", "RUN")]
    ],
    /,
    *,
    before: Annotated[
        str | None, said("stage without it (default: what --after starts from)", "STAGE")
    ] = None,
    after: Annotated[str | None, said("stage of kind rl (default: the first)", "STAGE")] = None,
    controls: Annotated[bool, said("train the control runs too, in RUN-controls")] = False,
    quick: Annotated[bool, said("fewer problems, in about a minute")] = False,
    files: Annotated[
        tuple[str, ...], said("problems from outside: gsm8k.jsonl, math.jsonl, rg:NAME", "TASK")
    ] = (),
    json: Json = False,
) -> int:
    """How far does the training carry beyond its tasks?"""
    from nomoat.evals import comparison, rings
    from nomoat.lab.controls import NAMES, with_controls
    from nomoat.lab.transfer import measured
    from nomoat.report import transfer

    results = []
    for directory in directories:
        run = Run.open(directory)
        after = after or stage_names(run.recipe, "rl")[0]
        recipe = resolve(run.recipe)
        before = before or recipe.stage(after).source
        if controls:
            recipe = resolve(with_controls(run, recipe, before, after))
            _, run = work(recipe, directory.with_name(directory.name + "-controls"), source=directory)
            if run is None:
                return 0
        names = [name for name in NAMES if run.finished(name)]
        config = rings.Config(before=before, after=after, controls=names, quick=quick, external=list(files))
        results.append(measured(run, config, recipe, say.aside))
    if not results:
        raise ConfigError("expected a run directory or several: `nomoat transfer runs/cpu`")
    result = results[0] if len(results) == 1 else comparison.combine(results)
    if json:
        return say.as_json(result)
    say.tables(transfer.tables(result))
    return say.result(transfer.verdict(result))


def compare(
    *,
    budget: Budget = "5m",
    seeds: Seeds = 3,
    text: Text = None,
    threads: Threads = 1,
    json: Json = False,
    out: KeptIn = Path("runs/compare"),
    quick: Annotated[bool, said("without the waterfall")] = False,
) -> int:
    """How much cheaper than the conventional cookbook?"""
    return _compare("compare", out, budget, seeds, text, threads, json, waterfall=not quick)


def truth(
    *,
    budget: Budget = "1m",
    seeds: Seeds = 3,
    text: Text = None,
    threads: Threads = 1,
    json: Json = False,
    out: KeptIn = Path("runs/truth"),
) -> int:
    """Which of DeepSeek's ingredients pay at this size?"""
    return _compare("truth", out, budget, seeds, text, threads, json)


def scaling(
    *,
    budget: Annotated[str, said("device time of the whole ladder, such as 5m", "TIME")] = "5m",
    seeds: Seeds = 2,
    text: Text = None,
    threads: Threads = 1,
    json: Json = False,
    out: KeptIn = Path("runs/scaling"),
) -> int:
    """What does the next bit of quality cost?"""
    return _compare("scaling", out, budget, seeds, text, threads, json)


def bench(
    what: Positional[Literal["device"]] = "device",
    /,
    *,
    threads: Annotated[
        int | None, said("of the processor, beside one (default: all)", "N", name="threads")
    ] = None,
    json: Json = False,
) -> int:
    """How fast are this machine's processor and GPU?"""
    from nomoat.lab import device
    from nomoat.parallel.process import settle_memory

    settle_memory()
    results = device.measure(threads)
    return say.as_json(results) if json else say.tables(device.tables(results))


def chaos(
    recipe: Positional[Annotated[Path, said("a file, or one that ships: smoke", "RECIPE")]],
    /,
    *,
    ranks: Annotated[int, said("processes, on this machine", "N")] = 4,
    faults: Annotated[int, said("how many", "N")] = 10,
    every: Annotated[float, said("seconds from one to the next, on the mean", "SECONDS")] = 60.0,
    kinds: Annotated[
        tuple[str, ...], said("kill, stop, slow, disk, nan, net (default: all)", "KIND")
    ] = ("kill", "stop", "slow", "disk", "nan", "net"),
    seed: Annotated[int, said("which ranks meet what, and when", "N")] = 0,
    out: KeptIn = Path("runs/chaos"),
    set_: Sets = (),
    json: Json = False,
) -> int:
    """What is left of a recipe whose ranks fail?"""
    from nomoat.lab import chaos as lab

    say.aside(f"{read_recipe(recipe, set_)['name']}: kept in {out}; the same command goes on")
    how = {"n_ranks": ranks, "n_faults": faults, "every": every, "kinds": kinds, "seed": seed}
    results = lab.run(lab.Chaos(recipe, out, changes=set_, tell=say.aside, **how))
    write_whole(out / "chaos.json", jsons.dumps(results, indent=1))
    if json:
        say.as_json(results)
    else:
        say.tables(lab.tables(results))
        say.result(lab.verdict(results))
    return 0 if results["equal"] else 1


def _compare(
    name: str, out: Path, budget: str, n_seeds: int, text: str | None, threads: int, json: bool, **more: Any
) -> int:
    """Runs a comparison of the room `lab` with progress on stderr; prints its tables, leaves its plot beside
    the runs.
    """
    import torch

    from nomoat.lab.series import Series
    from nomoat.parallel.process import settle_memory
    from nomoat.plan.budget import amount
    from nomoat.report.progress import Watch

    what, seconds = amount(budget)
    if what != "seconds":
        raise ConfigError(
            f"--budget {budget} is an amount of {what}; expected device time, such as 5m or 300s"
        )
    module = importlib.import_module(f"nomoat.lab.{name}")
    settle_memory()
    torch.set_num_threads(threads)
    with Watch(say.progress(), [name]) as watch:

        def tell(text: str, share: float) -> None:
            watch.show(name, f"{text}, {100 * share:.0f} %", share)

        results = module.run(Series(out, seconds, n_seeds, text, tell=tell), **more)
    write_whole(out / f"{name}.json", jsons.dumps(results, indent=1))
    if json:
        return say.as_json(results)
    say.tables(module.tables(results))
    if hasattr(module, "plot") and importlib.util.find_spec("matplotlib"):
        module.plot(results, out / f"{name}.svg")
        say.result(f"plot: {out / f'{name}.svg'}")
    return 0
