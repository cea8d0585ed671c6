"""Stage 2: next-token training on prose and worked tasks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from nomoat.config import ConfigError
from nomoat.data import shards
from nomoat.data.packing import Batch, Packed
from nomoat.data.shards import Shard
from nomoat.model.transformer import Transformer
from nomoat.stages import documents
from nomoat.stages.common import DTYPES, load_tokenizer, save_model, to_device
from nomoat.stages.recipe import Recipe, StageConfig
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.loop import Session, Work, train
from nomoat.train.objective import ObjectiveConfig, gradient
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.schedule import Schedule, ramp_rows, rows_before

LEAVES_WEIGHTS = True


class Config(StageConfig):
    """Rows of `context` tokens; `shares` says which part of the rows each kind of document fills.

    `text` is a path or, as `hub`, a data set of your own, of which `text_bytes` of each language are read;
    `chains` is the share of worked tasks that show their chain, for all families or for each; `samples` are earlier
    stages of rejection sampling, whose answers are read as worked tasks.
    """

    model: str = "main"
    steps: int
    rows: int = 8
    first_rows: int | None = None
    ramp_steps: int = 0
    context: int = 256
    precision: Literal["bf16", "fp32"] = "bf16"
    shares: dict[str, float] = {"prose": 1.0}
    text: str | None = None
    text_bytes: int | None = None
    hub: str | None = None
    tasks: dict[str, list[int]] = {}
    task_documents: int = 20_000
    chains: float | dict[str, float] = 1.0
    talk_documents: int = 2_000
    samples: list[str] = []
    optim: OptimConfig = OptimConfig()
    schedule: Schedule = Schedule()
    objective: ObjectiveConfig = ObjectiveConfig()


def run(session: Session, config: Config, recipe: Recipe) -> dict[str, Any]:
    tokenizer = load_tokenizer(session.run)
    model = Transformer(recipe.model(config.model)).initialise(recipe.key(config.name, "weights"))
    model = to_device(model, session, config.precision)
    data = prepare(session, config, recipe, tokenizer)
    optimizer = fit(session, config, model, data)
    outputs = save_model(session, model, optimizer, tokenizer)
    return {**outputs, "bought": f"{model.spec.params_total() / 1e6:.2f} M parameters"}


def prepare(session: Session, config: Config, recipe: Recipe, tokenizer: Tokenizer) -> Packed:
    """Shards of each kind of document, made once, and the packed view of them."""
    root = session.run.stage_dir(session.stage) / "data"
    makers = {
        "prose": lambda: documents.prose(documents.text(config.text, config.text_bytes, config.hub), tokenizer),
        "tasks": lambda: documents.worked(
            config.tasks, config.task_documents, config.chains, tokenizer, recipe.key(config.name, "tasks")
        ),
        "samples": lambda: documents.sampled(
            [session.run.root / session.run.finished(stage)["outputs"]["samples"] for stage in config.samples], tokenizer
        ),
        "talk": lambda: documents.talk(config.talk_documents, tokenizer, recipe.key(config.name, "talk")),
    }
    if unknown := set(config.shares) - set(makers):
        raise ConfigError(f"`{config.name}.shares` has {sorted(unknown)}; known: {sorted(makers)}")
    if config.shares.get("tasks") and not config.tasks:
        raise ConfigError(f"`{config.name}.shares.tasks` needs `{config.name}.tasks`: families and their levels")
    if config.shares.get("samples") and not config.samples:
        raise ConfigError(f"`{config.name}.shares.samples` needs `{config.name}.samples`: stages of kind reject")
    found = {}
    for kind, share in config.shares.items():
        if share > 0:
            with Work(session, f"encode {kind}"):
                found[kind] = open_or_write(root / kind, makers[kind], tokenizer.vocab_size, session)
    return Packed(found, {k: config.shares[k] for k in found}, config.context, recipe.key(config.name, "order"))


def open_or_write(path: Path, make: Callable[[], Iterator[documents.Tokens]], vocab_size: int, session: Session) -> Shard:
    """The shard at `path`; rank 0 writes it where it is not there yet (it appears whole or not at all)."""
    if session.leads and not path.exists():
        shards.write(path, make(), vocab_size)
    session.mesh.barrier()
    return shards.open(path)


def fit(session: Session, config: Config, model: Transformer, data: Packed) -> Optimizer:
    """The training itself, shared with the stages that continue on other data."""
    optimizer = Optimizer(model, config.optim)
    compute = lambda step: gradient(model, batch_of(session, config, data, step), config.objective, session.mesh)
    train(session, model, optimizer, config.schedule, config.steps, compute)
    return optimizer


def batch_of(session: Session, config: Config, data: Packed, step: int) -> Batch:
    """This rank's rows of a step."""
    ramp = (config.rows, config.first_rows or config.rows, config.ramp_steps)
    return data.batch(rows_before(step, *ramp), ramp_rows(step, *ramp), session.mesh.rank, session.mesh.world)


def plan(config: Config, recipe: Recipe) -> dict[str, Any]:
    spec = recipe.shape(config)
    rows = rows_before(config.steps, config.rows, config.first_rows or config.rows, config.ramp_steps)
    tokens = rows * config.context
    return {
        "parameters": spec.params_total() + spec.params_mtp(),
        "active": spec.params_active(),
        "tokens": tokens,
        "flops": tokens * spec.flops_train((config.context + 1) / 2),
        "memory_bytes": (spec.params_total() + spec.params_mtp()) * (4 * 3 + 4 + DTYPES[config.precision].itemsize),
    }


