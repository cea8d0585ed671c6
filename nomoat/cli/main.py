"""The command line: one verb per stage and a few to look at a run.  The result goes to stdout, progress to stderr.

Exit codes: 0 done, 2 a mistake that you can mend (the message says how), 75 interrupted after saving: run it again.
Nothing heavy is imported before a verb needs it, so that `nomoat --help` comes at once.
"""

import contextlib
import ctypes
import functools
import importlib.util
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from tyro.conf import Positional, arg

from nomoat.config import ConfigError, DataError, UserError, nearest, override, read_recipe
from nomoat.files import shipped, write_whole
from nomoat.run.directory import Run
from nomoat.run.log import last_scores
from nomoat.run.stop import Interrupted, Stop

if TYPE_CHECKING:
    from nomoat.report.table import Table
    from nomoat.stages.recipe import Recipe

AGAIN = 75  # EX_TEMPFAIL of sysexits.h


def _arg(help: str, **more: Any) -> Any:
    """An argument whose help says all; no word about defaults is added."""
    return arg(help=help, help_behavior_hint="", **more)


Sets = Annotated[tuple[str, ...], _arg("change the recipe: stage.key=value", name="set", metavar="KEY=VALUE")]
Json = Annotated[bool, _arg("print JSON")]
Plan = Annotated[bool, _arg("print what it would cost, and do nothing")]
RunDir = Annotated[Path, _arg("a run directory", metavar="RUN")]
From = Annotated[Path | None, _arg("take over the finished stages of this run that are the same", name="from", metavar="RUN")]
TaskFile = Annotated[str | None, _arg("learn this task instead: a .py or .jsonl file, or a family", metavar="FILE")]
Budget = Annotated[str, _arg("device time of one arm, such as 5m; a seed takes ten to thirty times that", metavar="TIME")]
Ladder = Annotated[str, _arg("device time of the whole ladder, such as 5m", metavar="TIME")]
Seeds = Annotated[int, _arg("how often everything is trained", metavar="N")]
Text = Annotated[str | None, _arg("text to train on (default: what ships)", metavar="PATH")]
Threads = Annotated[int, _arg("of the processor", metavar="N")]
Cores = Annotated[int | None, _arg("of the processor, beside one (default: all)", name="threads", metavar="N")]


def main(argv: Sequence[str]) -> int:
    """Runs one command; gives the exit code."""
    verbs: dict[str, Callable[..., int]] = {"run": run}
    verbs |= {kind: stage_verb(kind, what) for kind, what in shipped(__file__)["stages"].items()}
    verbs |= {"eval": evaluate, "export": export, "chat": chat, "receipt": receipt, "report": report, "plan": plan}
    verbs |= {"task": task, "learning": learning, "rollouts": rollouts, "transfer": transfer, "compare": compare}
    verbs |= {"truth": truth, "scaling": scaling, "bench": bench, "doctor": doctor}
    try:
        code = tyro.extras.subcommand_cli_from_dict(
            verbs, prog="nomoat", args=_gather_sets(argv), sort_subcommands=False,
            config=(tyro.conf.FlagCreatePairsOff,),
            description="A reasoning chatbot from raw text, at any budget: nomoat run recipes/cpu.toml",
        )  # fmt: skip
        sys.stdout.flush()
        return code
    except UserError as error:
        _say(f"nomoat: {error}")
        return 2
    except Interrupted as stopped:
        start = ["python", "-m", "nomoat"] if Path(sys.argv[0]).name == "__main__.py" else ["nomoat"]
        _say(f"nomoat: interrupted ({stopped}); saved. To go on:\n  {shlex.join([*start, *argv])}")
        return AGAIN
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of stdout has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


# --- verbs ---------------------------------------------------------------------------------------------------------


def run(
    recipe: Positional[Annotated[Path, _arg("such as recipes/cpu.toml", metavar="RECIPE")]], /, *,
    out: Annotated[Path | None, _arg("run directory (default: runs/<recipe name>)", metavar="DIR")] = None,
    from_: From = None, task: TaskFile = None, set_: Sets = (), plan: Plan = False, json: Json = False,
) -> int:  # fmt: skip
    """Run a recipe, all its stages; run again to go on."""
    table = _teach(read_recipe(recipe, set_), task)
    out = out or Path("runs") / str(table.get("name"))
    resolved = _resolve(table, out)
    if plan:
        return _forecast(resolved, [], json)
    ran, done = _work(resolved, out, [], from_)
    if done is None:
        return 0
    if not ran:
        _say(f"{out} is done: every stage of {resolved.name} has finished")
    try:
        page: Path | str = _page(done)
    except UserError as error:  # the run itself is whole
        page = str(error)
    if json:
        return _print_json({"run": str(out), "ran": ran, "report": str(page), "receipt": _receipt_json(done)})
    from nomoat.plan.forecast import against_plan
    from nomoat.report.receipt import receipt_of, receipt_table
    from nomoat.report.scores import score_tables, scores_of

    _print_tables((receipt_table(receipt_of(done)), against_plan(done), *score_tables(scores_of(done.events()))))
    print(f"report: {page}\n\nnext:")
    name = shlex.quote(str(out))
    export_dir = shlex.quote(f"{resolved.name}-model")
    for line, what in (
        (f"nomoat chat {name}", "talk to it"),
        (f"nomoat receipt {name}", "what it cost"),
        (f"nomoat eval {name} --json", "what it scores"),
        (f"nomoat report {name}", "write the page again"),
        (f"nomoat export {name} --out {export_dir}", "for transformers and vLLM"),
    ):
        print(f"  {line:<44}  # {what}")
    return 0


def stage_verb(kind: str, what: str) -> Callable[..., int]:
    """The verb that runs the stages of one kind alone."""

    def verb(
        *, out: Annotated[Path | None, _arg("run directory; earlier stages are read from it", metavar="DIR")] = None,
        recipe: Annotated[Path | None, _arg("recipe file (default: that of the run in --out)", metavar="FILE")] = None,
        name: Annotated[str | None, _arg("only the stage of this name (default: all)", metavar="STAGE")] = None,
        from_: From = None, task: TaskFile = None,
        set_: Annotated[Sets, _arg("change the recipe: key=value of this stage, or stage.key=value", name="set")] = (),
        plan: Plan = False, json: Json = False,
    ) -> int:  # fmt: skip
        if recipe is None and out is None:
            raise ConfigError("expected --recipe, --out or both: a recipe file, or a run whose recipe goes on")
        table = read_recipe(recipe) if recipe is not None else Run.open(out).recipe
        names = _names(table, kind, name)
        if task is not None:  # what comes before is learned on it too
            table = _teach(table, task)
            every = [s.get("name") or s["kind"] for s in table["stages"]]
            names = every[: every.index(names[-1]) + 1]
        for text in set_:
            for place in [f"{stage}." for stage in names] if _belongs_to_stage(table, text) else [""]:
                override(table, place + text)
        directory = out or Path("runs") / str(table.get("name"))
        resolved = _resolve(table, directory)
        if plan:
            return _forecast(resolved, names, json)
        ran, done = _work(resolved, directory, names, from_)
        return _left(done, names, ran, json)

    verb.__doc__ = what
    return verb


def evaluate(
    directory: Positional[RunDir], /, *, json: Json = False,
    name: Annotated[str | None, _arg("only the stage of this name", metavar="STAGE")] = None, plan: Plan = False,
) -> int:  # fmt: skip
    """Scores of a run's models, measured now if they are not yet."""
    from nomoat.report.scores import score_tables, scores_of
    run = Run.open(directory)
    names = _names(run.recipe, "eval", name)
    if plan:
        return _forecast(_resolve(run.recipe), names, json)
    if not all(run.finished(n) for n in names):
        _, done = _work(_resolve(run.recipe), directory, names)
        if done is None:
            return 0
    events = [e for e in run.events() if e.get("stage") in names]
    if json:
        scores = [{k: v for k, v in e.items() if k not in ("kind", "t", "stage")} for e in last_scores(events)]
        means = {m: v for n in names for m, v in run.finished(n)["outputs"].get("means", {}).items()}
        return _print_json({"run": str(directory), "means": means, "scores": scores})
    return _print_tables(score_tables(scores_of(events)))


def export(
    directory: Positional[RunDir], /, *,
    out: Annotated[Path | None, _arg("write one model here (default: do the export stages)", metavar="DIR")] = None,
    stage: Annotated[str | None, _arg("whose weights (default: the best evaluated)", metavar="STAGE")] = None,
    json: Json = False,
) -> int:  # fmt: skip
    """A directory that stock transformers opens."""
    run = Run.open(directory)
    if out is None:
        names = _names(run.recipe, "export", stage)
        ran, done = _work(_resolve(run.recipe), directory, names)
        return _left(done, names, ran, json)
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise DataError(f"{out} is there already and not empty; expected a new directory; choose another --out")
    from nomoat.serve import bot
    from nomoat.stages import s8_export
    from nomoat.weights import directory as weights

    loaded = bot.load(directory, stage=stage)
    weights.save(s8_export.without_depths(loaded.model), out, tokenizer=loaded.tokenizer)
    _print_json({"exports": [str(out)]}) if json else print(out)
    return 0


def chat(
    directory: Positional[Annotated[Path, _arg("a run directory or an exported model", metavar="RUN")]], /, *,
    prompt: Annotated[str | None, _arg('answer once; "-" reads standard input', aliases=["-p"], metavar="TEXT")] = None,
    stage: Annotated[str | None, _arg("whose weights (default: the best evaluated)", metavar="STAGE")] = None,
    system: Annotated[str | None, _arg("system prompt", metavar="TEXT")] = None,
    think: Annotated[Literal["on", "off", "auto"], _arg("think before answering")] = "auto",
    temperature: Annotated[float, _arg("0 takes the likeliest token", metavar="X")] = 0.0,
    max_tokens: Annotated[int, _arg("longest reply", metavar="N")] = 512,
    seed: int = 0,
) -> int:  # fmt: skip
    """Talk to a model, in the terminal or in a pipe."""
    from nomoat.serve import bot, terminal

    talker = bot.load(directory, stage=stage, temperature=temperature, max_new_tokens=max_tokens, seed=seed)
    return terminal.chat(talker, prompt=prompt, system=system, think=terminal.THINK[think])


def receipt(directory: Positional[RunDir], /, *, json: Json = False) -> int:
    """What each stage of a run cost."""
    from nomoat.plan.forecast import against_plan
    from nomoat.report.receipt import receipt_of, receipt_table, shares_of, shares_table

    run = Run.open(directory)
    if json:
        return _print_json(_receipt_json(run))
    found = receipt_of(run)
    return _print_tables((receipt_table(found), against_plan(run), shares_table(shares_of(run, found))))


def report(directory: Positional[RunDir], /) -> int:
    """Write RUN/report.html again."""
    print(_page(Run.open(directory)))
    return 0


def plan(
    recipe: Positional[Annotated[Path | None, _arg("a recipe, or name a model", metavar="[RECIPE]")]] = None, /, *,
    model: Annotated[str | None, _arg("a run of docs/plan.md, such as deepseek-v3", metavar="NAME")] = None,
    gpu: Annotated[str | None, _arg("such as h800 (here and below default: as published)", metavar="NAME")] = None,
    gpus: Annotated[int | None, _arg("how many", metavar="N")] = None,
    tokens: Annotated[str | None, _arg("such as 14.8T", metavar="N")] = None,
    context: Annotated[int | None, _arg("tokens of a training row", metavar="N")] = None,
    mfu: Annotated[float | None, _arg("share of the peak (default: fitted to published runs)", metavar="X")] = None,
    set_: Sets = (), json: Json = False,
) -> int:  # fmt: skip
    """Estimate what a recipe or a known model will cost."""
    if (recipe is None) == (model is None):
        raise ConfigError("expected a recipe or a --model, one of them: `nomoat plan recipes/cpu.toml`")
    if recipe is not None:
        return _forecast(_resolve(read_recipe(recipe, set_)), [], json)
    from nomoat.plan.cost import find_published, parse_quantity, table_rows
    from nomoat.report.table import Table

    run = find_published(model)
    amount = parse_quantity(tokens) if tokens else None
    found = run.plan(tokens=amount, gpu=gpu, n_gpus=gpus, context=context, mfu=mfu)
    if json:
        return _print_json(found.to_json())
    header = ("what", "estimate", "published", "by")
    _print_table(Table(f"Plan for {model}, estimated", header, tuple(table_rows(found, run)), words=("by",)))
    return 0


def task(
    action: Positional[Literal["list", "new", "check", "audit"]],
    target: Positional[Annotated[str | None, _arg("a task file or a family", metavar="[FILE]")]] = None, /,
) -> int:  # fmt: skip
    """Write a task of your own, and check it."""
    from nomoat.stats import wilson
    from nomoat.tasks import authoring, find

    if action == "list":
        for name, family in find.families().items():
            first, unseen = family.__doc__.partition("\n")[0], "  (unseen)" if name in find.UNSEEN else ""
            print(f"{name:<10}  levels {family.levels[0]}-{family.levels[-1]}  {first}{unseen}")
        return 0
    if action == "audit":
        print(authoring.audit().text(wilson))
        return 0
    if target is None:
        raise ConfigError(f"expected a file: `nomoat task {action} mine.py`")
    if action == "new":
        print(authoring.new(target))
        return 0
    complaints, text = authoring.check(target)
    print(text)
    return 2 if complaints else 0


def learning(
    directory: Positional[RunDir], /, *,
    stage: Annotated[str | None, _arg("a stage of kind rl (default: the last that began)", metavar="STAGE")] = None,
    json: Json = False,
) -> int:  # fmt: skip
    """Is it learning?  One screen, while it runs or after."""
    from nomoat.report.learning import screen

    run = Run.open(directory)
    shown = screen(run, _rl_stage(run, stage))
    if json:
        return _print_json(shown.to_json())
    print(shown.text(_width()))
    return 0


def rollouts(
    directory: Positional[RunDir], /, *,
    stage: Annotated[str | None, _arg("a stage of kind rl (default: the last that began)", metavar="STAGE")] = None,
    step: Annotated[int | None, _arg("only of this step", metavar="N")] = None,
    family: Annotated[str | None, _arg("only of this family", metavar="NAME")] = None,
    only: Annotated[Literal["all", "right", "wrong", "doubted"], _arg("which ones")] = "all",
    limit: Annotated[int, _arg("how many, the newest", aliases=["-n"], metavar="N")] = 5, json: Json = False,
) -> int:  # fmt: skip
    """Read what the policy wrote, and what it got for it."""
    from nomoat.report import rollouts as reader

    run = Run.open(directory)
    found = list(reader.read(run, _rl_stage(run, stage), step=step, family=family, only=only, limit=limit))
    _print_lines(found) if json else print(reader.show(found, _width()))
    return 0


def _rl_stage(run: Run, name: str | None) -> str:
    """A stage of kind rl by name, or the last one that has begun."""
    names = _names(run.recipe, "rl", name)
    begun = [e["stage"] for e in run.events("stage_start") if e["stage"] in names]
    if not begun:
        raise DataError(f"{run.root}: no step of {', '.join(names)} yet; run it first")
    return begun[-1]


def transfer(
    directories: Positional[Annotated[tuple[Path, ...], _arg("run directories; several seeds count together", metavar="RUN")]],
    /, *, before: Annotated[str | None, _arg("stage without it (default: what --after starts from)", metavar="STAGE")] = None,
    after: Annotated[str | None, _arg("stage of kind rl (default: the first)", metavar="STAGE")] = None,
    controls: Annotated[bool, _arg("train the control runs too, in RUN-controls")] = False,
    quick: Annotated[bool, _arg("fewer problems, in about a minute")] = False,
    files: Annotated[tuple[str, ...], _arg("problems from outside: gsm8k.jsonl, math.jsonl, rg:NAME", metavar="TASK")] = (),
    json: Json = False,
) -> int:  # fmt: skip
    """How far does the training carry beyond its tasks?"""
    from nomoat.evals import comparison, rings
    from nomoat.lab import controls as control
    from nomoat.lab.transfer import measured
    from nomoat.report import transfer as shown

    _keep_freed_memory()
    results = []
    for directory in directories:
        run = Run.open(directory)
        after = after or _names(run.recipe, "rl", None)[0]
        recipe = _resolve(run.recipe)
        before = before or recipe.stage(after).source
        if controls:
            recipe = _resolve(control.with_controls(run, recipe, before, after))
            run = _work(recipe, directory.with_name(directory.name + "-controls"), [], directory)[1]
            if run is None:
                return 0
        names = [name for name in control.NAMES if run.finished(name)]
        config = rings.Config(before=before, after=after, controls=names, quick=quick, external=list(files))
        results.append(measured(run, config, recipe))
    if not results:
        raise ConfigError("expected a run directory or several: `nomoat transfer runs/cpu`")
    found = results[0] if len(results) == 1 else comparison.combine(results)
    if json:
        return _print_json(found)
    _print_tables(shown.tables(found))
    print(shown.verdict(found))
    return 0


def compare(
    *, budget: Budget = "5m", seeds: Seeds = 3, text: Text = None, threads: Threads = 1, json: Json = False,
    out: Annotated[Path, _arg("where runs are kept: the same command goes on", metavar="DIR")] = Path("runs/compare"),
    quick: Annotated[bool, _arg("without the waterfall")] = False,
) -> int:  # fmt: skip
    """How much cheaper than the conventional cookbook?"""
    return _lab("compare", out, budget, seeds, text, threads, json, waterfall=not quick)


def truth(
    *, budget: Budget = "1m", seeds: Seeds = 3, text: Text = None, threads: Threads = 1, json: Json = False,
    out: Annotated[Path, _arg("where runs are kept: the same command goes on", metavar="DIR")] = Path("runs/truth"),
) -> int:  # fmt: skip
    """Which of DeepSeek's ingredients pay at this size?"""
    return _lab("truth", out, budget, seeds, text, threads, json)


def scaling(
    *, budget: Ladder = "5m", seeds: Seeds = 2, text: Text = None, threads: Threads = 1, json: Json = False,
    out: Annotated[Path, _arg("where runs are kept: the same command goes on", metavar="DIR")] = Path("runs/scaling"),
) -> int:  # fmt: skip
    """What does the next bit of quality cost?"""
    return _lab("scaling", out, budget, seeds, text, threads, json)


def bench(what: Positional[Literal["device"]] = "device", /, *, threads: Cores = None, json: Json = False) -> int:
    """How fast are this machine's processor and GPU?"""
    from nomoat.lab import device

    _keep_freed_memory()
    found = device.measure(threads)
    if json:
        return _print_json(found)
    return _print_tables(device.tables(found))


def _lab(name: str, out: Path, budget: str, n_seeds: int, text: str | None, threads: int, as_json: bool, **more: Any) -> int:
    """Runs a comparison of the room `lab` with progress on stderr; prints its tables, leaves its plot beside the runs."""
    import torch

    from nomoat.plan.budget import amount
    from nomoat.report.progress import Watch

    what, seconds = amount(budget)
    if what != "seconds":
        raise ConfigError(f"--budget {budget} is an amount of {what}; expected device time, such as 5m or 300s")
    module = importlib.import_module(f"nomoat.lab.{name}")
    _keep_freed_memory()
    torch.set_num_threads(threads)
    with Watch(_aside(), [name]) as watch:
        tell = lambda says, share: watch.show(name, f"{says}, {100 * share:.0f} %", share)
        found = module.run(out, seconds, n_seeds, text=text, tell=tell, **more)
    write_whole(out / f"{name}.json", json.dumps(found, indent=1))
    if as_json:
        return _print_json(found)
    _print_tables(module.tables(found))
    if hasattr(module, "plot") and importlib.util.find_spec("matplotlib"):
        module.plot(found, out / f"{name}.svg")
        print(f"plot: {out / f'{name}.svg'}")
    return 0


def doctor() -> int:
    """Which layers of the sandbox hold here; tries the attacks."""
    from nomoat import sandbox
    from nomoat.report.table import Table
    from nomoat.sandbox import attacks

    layers = tuple((name, "active" if active else "absent", detail) for name, active, detail in attacks.layers())
    _print_table(Table("Sandbox", ("layer", "here", "detail"), layers, words=("here", "detail")))
    print(f"\nmodel-written code runs under: {sandbox.backend()}\n")
    tried = attacks.self_test(sandbox.backend())
    rows = tuple((attack, "held" if held else "BREACHED", detail) for attack, held, detail in tried)
    _print_table(Table("Attacks", ("attack", "outcome", "its program"), rows, words=("outcome", "its program")))
    breached = sum(not held for _, held, _ in tried)
    print(f"\n{len(tried) - breached} of {len(tried)} attacks held")
    return 2 if breached else 0


# --- work ----------------------------------------------------------------------------------------------------------


def _teach(table: dict[str, Any], task: str | None) -> dict[str, Any]:
    """The recipe with one task in the place of every stage's own."""
    if task is not None:
        from nomoat.tasks import find

        for stage in table.get("stages", []):
            if stage.get("tasks"):
                stage["tasks"] = {task: list(find.find(task).levels)}
    return table


def _work(
    recipe: "Recipe", out: Path, only: Sequence[str], source: Path | None = None
) -> tuple[list[str], Run | None]:
    """Runs stages with progress on stderr; (those that ran, the run to read), None on ranks that do not lead."""
    _keep_freed_memory()
    from nomoat.parallel import mesh
    from nomoat.report.progress import Watch
    from nomoat.stages.pipeline import device_class, run_stages

    ranks = mesh.start(recipe.device)
    try:
        run = _open(recipe, out, source) if ranks.rank == 0 else None
        ranks.barrier()
        if run is None:
            with Stop() as stop:
                run = Run.open(out, write=True)
                run_stages(run, recipe, stop, only=only, metered=_metered(recipe, run, stop))
            return [], None
        names = [s.name for s in recipe.stages if not only or s.name in only]
        units = recipe.threads if ranks.device.type == "cpu" else ranks.world
        finished = {name for name in names if run.finished(name)}
        with Stop() as stop, run.locked(), contextlib.ExitStack() as stack:
            if finished != set(names):
                watch = Watch(_aside(), names, finished, units=units, device=device_class(ranks.device))
                run.observe = stack.enter_context(watch)
            return run_stages(run, recipe, stop, only=only, metered=_metered(recipe, run, stop)), run
    finally:
        mesh.stop()


def _metered(recipe: "Recipe", run: Run, stop: Stop) -> Callable[[str, int], Any] | None:
    """What makes the meter of a recipe with a budget."""
    from nomoat.plan.budget import Meter

    return functools.partial(Meter, recipe, run, stop) if recipe.limit else None


def _resolve(table: dict[str, Any], out: Path | None = None) -> "Recipe":
    """The recipe in a table; where a run has begun in `out`, as that run goes on with it."""
    from nomoat.plan.budget import resolve

    begun = out is not None and (out / "recipe.json").exists()
    return resolve(table, Run.open(out).recipe if begun else None)


def _open(recipe: "Recipe", out: Path, source: Path | None) -> Run:
    """The run in `out`; a new one begins with what `source` has done of the same recipe."""
    if source is None:
        return Run.create(out, recipe.table)
    done = Run.open(source)
    run = Run.fork(done, out, recipe.table, _resolve(done.recipe).table)
    kept = [s.name for s in recipe.stages if run.finished(s.name)]
    _say(f"taken over from {source}: {', '.join(kept) or 'nothing, no stage is the same'}")
    return run


def _keep_freed_memory() -> None:
    """Let glibc keep freed tensors for the next ones: a tenth more training speed on a CPU, measured.

    By default each large tensor is mapped and unmapped anew, and the kernel clears its pages every time.
    """
    trim, mmap, ceiling = -1, -3, 32 << 20
    with contextlib.suppress(OSError, AttributeError):  # another libc has no mallopt, or no such library
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        if not mallopt(mmap, 1 << 30):
            mallopt(mmap, ceiling)
        mallopt(trim, (1 << 31) - 1)


def _forecast(recipe: "Recipe", only: Sequence[str], as_json: bool) -> int:
    from nomoat.plan.forecast import forecast

    found = forecast(recipe, only)
    return _print_json(found) if as_json else _print_table(found.table())


def _left(run: Run | None, names: Sequence[str], ran: Sequence[str], as_json: bool) -> int:
    """Prints the paths that stages left."""
    if run is None:
        return 0
    if not ran:
        _say(f"done already: {', '.join(names)} in {run.root}")
    left = {}
    for name in names:
        outputs = run.finished(name)["outputs"]
        paths = [outputs[key] for key in ("model", "tokenizer") if key in outputs] + outputs.get("exports", [])
        left[name] = [str(run.root / path) for path in paths]
    _print_json(left) if as_json else print("\n".join(path for paths in left.values() for path in paths))
    return 0


def _page(run: Run) -> Path:
    """RUN/report.html; UserError without the package that draws its plots."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError(f"the report draws with matplotlib, which is not installed; pip install 'nomoat[report]', "
                        f"then: nomoat report {shlex.quote(str(run.root))}")  # fmt: skip
    from nomoat.report.page import write

    return write(run)


def _receipt_json(run: Run) -> dict[str, Any]:
    from nomoat.report.receipt import receipt_of, shares_of

    found = receipt_of(run)
    return {"run": str(run.root), **asdict(found), "shares": shares_of(run, found)}


def _names(table: dict[str, Any], kind: str, name: str | None) -> list[str]:
    """The stages of a kind in a recipe's table, or the one that was named."""
    found = [s.get("name") or kind for s in table.get("stages", []) if isinstance(s, dict) and s.get("kind") == kind]
    if not found:
        raise ConfigError(f"the recipe has no stage of kind `{kind}`; add one, or use another verb")
    if name is not None and name not in found:
        raise ConfigError(f"no {kind} stage `{name}` in the recipe; {nearest(name, found)}")
    return found if name is None else [name]


def _belongs_to_stage(table: dict[str, Any], text: str) -> bool:
    """Whether `key=value` means this verb's stage: its first word is no place of the recipe."""
    first, dot, _ = text.partition("=")[0].strip().partition(".")
    stages = [s.get("name") or s.get("kind") for s in table.get("stages", [])]
    return not (first in (*stages, "models") if dot else first in ("seed", "device", "threads", "save_seconds"))


# --- words ---------------------------------------------------------------------------------------------------------


def _gather_sets(argv: Sequence[str]) -> list[str]:
    """`--set a=1 --set b=2` as one `--set a=1 b=2` at the end, which is what the parser reads."""
    out, sets, words = [], [], iter(argv)
    for word in words:
        if word == "--set":
            sets.append(next(words, ""))
        elif word.startswith("--set="):
            sets.append(word.removeprefix("--set="))
        elif sets and "=" in word and not word.startswith("-"):
            sets.append(word)
        else:
            out.append(word)
    return [*out, "--set", *sets] if sets else out


def _aside() -> Console:
    """Where progress goes; plain in a pipe and under NO_COLOR."""
    plain = bool(os.environ.get("NO_COLOR")) or not sys.stderr.isatty()
    return Console(stderr=True, color_system=None if plain else "auto", no_color=plain)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _print_table(table: "Table") -> int:
    print(table.text(_width()))
    return 0


def _print_tables(tables: "Iterable[Table]") -> int:
    """Each with an empty line behind it."""
    for table in tables:
        _print_table(table)
        print()
    return 0


def _width() -> int:
    return shutil.get_terminal_size((110, 24)).columns if sys.stdout.isatty() else 110


def _print_lines(records: Sequence[Any]) -> None:
    for record in records:
        print(json.dumps(record))


def _print_json(value: Any) -> int:
    print(json.dumps(value, indent=1, ensure_ascii=False, default=asdict))
    return 0
