"""Next-token training on documents, which several stages share: settings, data, batches, estimate."""

from typing import Any, Literal

import numpy as np
from pydantic import model_validator

from nomoat.config import ConfigError
from nomoat.data import documents, shards
from nomoat.data.packing import Batch, Packed
from nomoat.model import counts
from nomoat.model.kernels import keys_read
from nomoat.model.transformer import Transformer
from nomoat.stages import estimate
from nomoat.stages.models import DTYPES, load_tokenizer, save_model, to_device
from nomoat.stages.recipe import Recipe, StageConfig
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.loop import train
from nomoat.train.objective import ObjectiveConfig, gradient
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.schedule import Schedule, ramp_rows, rows_before
from nomoat.train.session import Session, Work
from nomoat.train.start import from_bigrams


class Config(StageConfig):
    """Rows of `context` tokens; `shares` says which part of the rows each kind of document fills.

    `text` is a path or, as `hub`, a data set of your own, of which `text_bytes` of each language are read;
    `chains` is the share of worked tasks that show their chain, for all families or for each; `samples` are earlier
    stages of rejection sampling, whose answers are read as worked tasks.  `weights = "counts"` sets a new model's embedding
    and head by counts of neighbours (train/start.py).  The first `short` share of the steps reads as many tokens in rows
    of `short_context`.
    """

    model: str = "main"
    steps: int
    rows: int = 8
    first_rows: int | None = None
    ramp_steps: int = 0
    context: int = 256
    short_context: int | None = None
    short: float = 0.0
    weights: Literal["noise", "counts"] = "noise"
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

    @model_validator(mode="after")
    def _possible(self):
        if bool(self.short_context) != bool(self.short) or self.context % (self.short_context or 1) or not 0 <= self.short <= 1:
            raise ValueError(f"expected short_context to divide context = {self.context}, with a share `short` of the steps, "
                             f"found {self.short_context} and {self.short}")  # fmt: skip
        return self


def fit(session: Session, config: Config, recipe: Recipe, model: Transformer, *, fresh: bool = False) -> dict[str, Any]:
    """Trains a model on the stage's documents and saves it, as the stages that continue on other data do too."""
    tokenizer = load_tokenizer(session.run)
    data = prepare(session, config, recipe, tokenizer)
    model = to_device(model, session, config.precision)
    if fresh and config.weights == "counts":
        with Work(session, "count neighbours") as work:
            tokens = np.concatenate([shard.tokens for shard in data.shards.values()])
            work.fields["flops_executed"] = from_bigrams(model, tokens, recipe.key(config.name, "counts"))
            for matrix in (model.embed.weight.data, model.head.weight.data):  # every rank takes the first one's, to the bit
                matrix.mul_(session.mesh.world if session.leads else 0)
                session.mesh.all_reduce_mean([matrix])
    optimizer = Optimizer(model, config.optim)
    compute = lambda step: gradient(model, batch_of(session, config, data, step), config.objective, session.mesh)
    train(session, model, optimizer, config.schedule, config.steps, compute)
    return save_model(session, model, optimizer, tokenizer)


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
                if session.leads and not (root / kind).exists():  # it appears whole or not at all
                    shards.write(root / kind, makers[kind](), tokenizer.vocab_size)
                session.mesh.barrier()
                found[kind] = shards.open(root / kind)
    return Packed(found, {k: config.shares[k] for k in found}, config.context, recipe.key(config.name, "order"))


def batch_of(session: Session, config: Config, data: Packed, step: int) -> Batch:
    """This rank's rows of a step."""
    ramp = (config.rows, config.first_rows or config.rows, config.ramp_steps)
    first, n_rows, switch = rows_before(step, *ramp), ramp_rows(step, *ramp), int(config.short * config.steps)
    if step < switch and config.short_context:
        parts = config.context // config.short_context
        return data.at(config.short_context).batch(parts * first, parts * n_rows, session.mesh.rank, session.mesh.world)
    first -= rows_before(switch, *ramp) if config.short_context else 0
    return data.batch(first, n_rows, session.mesh.rank, session.mesh.world)


def plan(config: Config, recipe: Recipe) -> dict[str, Any]:
    spec, steps, T = recipe.shape(config), config.steps, config.context
    tokens = T * rows_before(steps, config.rows, config.first_rows or config.rows, config.ramp_steps)
    executed = tokens * counts.flops_train(spec, keys_read(recipe.kernels, T), recipe.kernels)
    read = {kind for kind, share in config.shares.items() if share}
    n_documents = config.task_documents * ("tasks" in read) + config.talk_documents * ("talk" in read)
    return {
        "parameters": counts.params_total(spec) + counts.params_mtp(spec),
        "active": counts.params_active(spec),
        "tokens": tokens,
        "flops": tokens * counts.flops_train(spec, (T + 1) / 2),
        "memory_bytes": (counts.params_total(spec) + counts.params_mtp(spec)) * (4 * 3 + 4 + DTYPES[config.precision].itemsize),
        "trained": executed * (1 + (config.precision == "fp32")) + steps * estimate.newton_schulz(spec, config.optim),
        "host": estimate.encoding(n_documents, estimate.text_bytes("train", config.text_bytes) if "prose" in read else 0),
    }
