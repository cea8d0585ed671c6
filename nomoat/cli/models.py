"""The verbs that use a model, whatever it comes from."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from nomoat.cli import runs, say, shelf, suite_of
from nomoat.cli.args import Json, MaybeSource, OneStage, Plan, Source, WhoseWeights, only, said
from nomoat.config import ConfigError
from nomoat.run.directory import Run

if TYPE_CHECKING:
    from nomoat.serve.loading import Loaded

Think = Annotated[Literal["on", "off", "auto"], said("think before answering")]
Type = Literal["f32", "bf16", "f16", "fp8", "q8_0", "q4_0"]


def chat(
    source: MaybeSource = None,
    /,
    *,
    prompt: Annotated[
        str | None, said('answer once; "-" reads standard input', "TEXT", aliases=["-p"])
    ] = None,
    stage: WhoseWeights = None,
    system: Annotated[str | None, said("system prompt", "TEXT")] = None,
    think: Think = "auto",
    show_thinking: Annotated[bool, said("too; of -p and pipes, on stderr")] = False,
    temperature: Annotated[float, said("0 takes the likeliest token", "X")] = 0.0,
    top_p: Annotated[float, said("of the likeliest, this much probability", "P")] = 1.0,
    top_k: Annotated[int | None, said("of the likeliest, so many", "K")] = None,
    min_p: Annotated[float, said("as likely as P times the likeliest", "P")] = 0.0,
    max_tokens: Annotated[int, said("longest reply", "N")] = 512,
    seed: int = 0,
    json: Annotated[bool, said("one object a line for each line of the input")] = False,
) -> int:
    """Talk to a model, in the terminal or in a pipe."""
    if source == "list" and not Path(source).exists():
        only(chat, locals(), "`chat list`", ["source", "json"])
        return shelf.models(json)
    from nomoat.engine.request import Sampling
    from nomoat.parallel.contention import Polite
    from nomoat.serve import terminal
    from nomoat.serve.bot import Bot
    from nomoat.serve.talk import THINK
    from nomoat.weights.shelf import first

    sampling = Sampling(temperature, top_k, top_p, min_p)
    if temperature == 0 and not sampling.plain:
        raise ConfigError(
            "--top-p, --top-k and --min-p choose among tokens, and temperature 0 takes the likeliest; "
            "expected --temperature above 0 beside them, such as 0.8"
        )
    source = source or first()
    with Polite():
        loaded = _load(source, stage)
        bot = Bot(loaded.model, loaded.tokenizer, sampling=sampling, max_new_tokens=max_tokens, seed=seed)
        say.speed()
        manner = terminal.Manner(json, show_thinking, _banner(source, loaded))
        return terminal.chat(bot, prompt=prompt, system=system, think=THINK[think], manner=manner)


def _banner(source: str, loaded: "Loaded") -> str:
    """What a chat begins with: the model's name, and what it was taught."""
    run = f", stage {loaded.origin.name}" if loaded.run else ""
    taught = f"\n{loaded.panel.text()}" if loaded.panel else ""
    return f"nomoat · {source}{run}{taught}"


def evaluate(
    source: Source,
    /,
    *,
    json: Json = False,
    name: OneStage = None,
    plan: Plan = False,
    task: Annotated[
        tuple[str, ...], said("not a run: families and files (default: every family)", "TASK")
    ] = (),
    problems: Annotated[int | None, said("not a run: of each task's first level (20)", "N")] = None,
    samples: Annotated[int | None, said("not a run: answers beside a greedy one (2)", "N")] = None,
    max_tokens: Annotated[int | None, said("not a run: longest answer (96)", "N")] = None,
    think: Think = "auto",
    again: Annotated[bool, said("a run: measure what was measured before, too")] = False,
    suite: Annotated[tuple[str, ...], said("others' benchmarks: standard, or some of it", "NAME")] = (),
    shots: Annotated[
        Literal["few", "zero"] | None, said("a suite: solved examples first", "few|zero")
    ] = None,
    limit: Annotated[int | None, said("a suite: the first items of each", "N")] = None,
    out: Annotated[Path | None, said("a suite: keep the answers, go on there", "FILE")] = None,
) -> int:
    """What a run's models score, or one model on tasks."""
    asked = think != "auto" or any(count is not None for count in (problems, samples, max_tokens))
    if suite:
        if name or task or again or asked:
            raise ConfigError(
                "--suite asks what the suite says; expected none of --name, --task, --problems, --samples, "
                "--max-tokens, --think and --again beside it"
            )
        return suite_of.evaluate(source, suite_of.Asked(suite, limit, shots != "zero", out, plan, json))
    if limit is not None or out is not None or shots:
        raise ConfigError("--limit, --shots and --out are of a suite; expected --suite standard")
    if (Path(source) / "recipe.json").is_file():
        _as_its_recipe_says(source, task, asked)
        return runs.evaluate(Path(source), json, name, plan, again)
    if name or plan or again:
        raise ConfigError(f"{source} is no run; expected no --name, --plan or --again: those are of runs")
    return _on_tasks(source, task, (problems, samples, max_tokens), think, json)


def _on_tasks(
    source: str, task: Sequence[str], counts: tuple[int | None, ...], think: Think, json: bool
) -> int:
    """What a model scores on the first level of each task."""
    from nomoat.evals.problems import Candidate, mean_accuracy, scores
    from nomoat.parallel.contention import Polite
    from nomoat.report.scores import score_tables, scores_of
    from nomoat.rl.rollout import exercises
    from nomoat.serve.talk import THINK
    from nomoat.tasks import find

    levels = {family: list(find.find(family).levels)[:1] for family in task or find.FAMILIES}
    loaded = _load(source)
    problems, samples, max_tokens = (given or usual for given, usual in zip(counts, (20, 2, 96), strict=True))
    if counts[-1] and max_tokens >= loaded.model.spec.context:
        raise ConfigError(
            f"--max-tokens {max_tokens}: expected less than the context of {source}, which is "
            f"{loaded.model.spec.context}; lower it"
        )
    say.speed()
    asked = exercises(levels, problems * len(levels), 0, "eval")
    candidate = Candidate(loaded.model, loaded.tokenizer, max_tokens, THINK[think])
    say.aside(f"{len(asked)} problems, {1 + samples} answers each")
    with Polite():
        answered = candidate.both(None, asked, samples, 0)
    records = list(scores(source, answered))
    if json:
        return say.as_json({"model": source, "mean": mean_accuracy(answered), "scores": records})
    return say.tables(score_tables(scores_of({"kind": "score", **record} for record in records)))


def _as_its_recipe_says(source: str, task: Sequence[str], otherwise: bool) -> None:
    """ConfigError for a run that is to be measured in another way than its recipe says."""
    if task:
        raise ConfigError(
            f"{source} is a run, whose recipe names the tasks; expected no --task; export one of its "
            "models and evaluate that"
        )
    if otherwise:
        raise ConfigError(
            f"{source} is a run, whose recipe says how its models are measured; expected no --problems, "
            "--samples, --max-tokens or --think; change its stage of kind eval"
        )


def export(
    source: Source,
    /,
    *,
    out: Annotated[
        Path | None, said("a new directory or file (default: do the run's export stages)", "PATH")
    ] = None,
    to: Annotated[
        Literal["hf", "gguf", "peft"],
        said("for transformers, for llama.cpp, or what a run learnt by `lora`"),
    ] = "hf",
    type: Annotated[Type, said("of the numbers; fp8 only in hf, q8_0 and q4_0 only in gguf")] = "f32",
    stage: WhoseWeights = None,
    json: Json = False,
) -> int:
    """A directory or file for stock software, read back first."""
    if out is None:
        if to == "gguf" or type != "f32" or not (Path(source) / "recipe.json").is_file():
            place = "FILE.gguf" if to == "gguf" else "DIR"
            raise ConfigError(
                f"{source}: found no --out; expected --out {place}, as only the export stages of a run have "
                "a place of their own; add it"
            )
        return runs.export(Path(source), stage, json)
    if to == "peft" and type != "f32":
        raise ConfigError(f"--to peft can't hold {type}; expected f32: adapters are float32; leave it out")
    if (to == "hf" and type.startswith("q")) or (to == "gguf" and type == "fp8"):
        raise ConfigError(f"--to {to} can't hold {type}; expected f32, bf16 or f16; or use the other --to")
    from nomoat.serve import exporting

    if to == "peft":
        paths = list(map(str, exporting.adapter(_run(source), stage, out)))
        return say.as_json({"exports": paths}) if json else say.result("\n".join(paths))
    write = exporting.directory if to == "hf" else exporting.gguf
    paths = [str(path) for path in write(_load(source, stage), out, type)]
    return say.as_json({"exports": paths}) if json else say.result("\n".join(paths))


def _run(source: str) -> Run:
    """ConfigError for what is no run: only a run knows what it learnt beside its base."""
    if not (Path(source) / "recipe.json").is_file():
        raise ConfigError(f"{source} is no run; expected one, as only a run has adapters; use another --to")
    return Run.open(Path(source))


def import_(
    source: Source,
    /,
    *,
    out: Annotated[Path, said("a new directory", "DIR")],
    type: Annotated[Literal["f32", "bf16", "f16"], said("of the numbers")] = "f32",
) -> int:
    """An open model as a directory that transformers opens, too."""
    from nomoat.serve import exporting

    (path,) = exporting.directory(_load(source), out, type)
    return say.result(path)


def inspect(source: Source, /, *, json: Json = False) -> int:
    """What a model is, from its headers alone."""
    from nomoat.serve import inspecting
    from nomoat.weights import known

    found = inspecting.inspect(known.locate(source, say.aside))
    return say.as_json(found.facts) if json else say.result(found.text())


def _load(source: str, stage: str | None = None) -> "Loaded":
    from nomoat.serve import loading

    return loading.load(source, stage, say=say.aside)
