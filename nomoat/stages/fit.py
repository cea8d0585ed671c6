"""Next-token training on documents, which several stages share: settings, data, batches, estimate."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor

from nomoat.config import Count, Share, Weight
from nomoat.data import documents, shards
from nomoat.data.packing import Packed
from nomoat.model import counts
from nomoat.model.kernels import keys_read
from nomoat.model.lora import Lora
from nomoat.model.spec import Spec
from nomoat.stages import estimate, footprint, inputs, limits
from nomoat.stages.begin import Learns, Start, Values, build
from nomoat.stages.learnt import Learnt
from nomoat.stages.models import DTYPES, dtype_of, load_tokenizer, save_model
from nomoat.stages.recipe import Fields, Recipe, Tasks
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import Rendered
from nomoat.train.loop import Gradient, train
from nomoat.train.microbatches import Rows, microbatches
from nomoat.train.objective import ObjectiveConfig, accumulate
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.schedule import Schedule, ramp_rows, rows_before
from nomoat.train.session import Session, Work
from nomoat.train.start import from_bigrams

KINDS = ("prose", "tasks", "dialogues", "samples", "talk")  # of documents
LONGEST = 2**24  # tokens of a row
MOST_COUNTED = 2**26  # tokens of a source whose neighbours are counted


class Config(inputs.ReadsText):
    """Rows of `context` tokens; `shares` says which part of the rows each kind of document fills.

    `chains` is the share of worked tasks that show their chain, for all families or for each; `samples` are
    earlier stages of rejection sampling, whose answers are read as worked tasks.  `replay` are such of
    `general` questions: a step's loss is that of its rows plus that of `replay_rows` of what the model
    replied to them, so that what is not taught stays as it was.  `weights = "counts"` sets a
    new model's embedding and head by counts of neighbours (train/start.py).  The first `short` share of the
    steps reads as many tokens in rows of `short_context`.
    """

    leaves_weights: ClassVar[bool] = True
    model: str = "main"
    steps: Count
    rows: Count = 8
    micro_rows: Count | None = None  # of a pass on one rank; absent: all, of a large model fewer, or one
    first_rows: Count | None = None
    ramp_steps: int = Field(0, ge=0, le=10**6)
    context: int = Field(256, ge=2, le=LONGEST)
    short_context: int | None = Field(None, ge=2, le=LONGEST)
    short: Share = 0.0
    weights: Literal["noise", "counts"] = "noise"
    precision: Literal["bf16", "fp32"] = "bf16"
    shares: dict[str, Weight] = {"prose": 1.0}
    tasks: Tasks = {}
    task_documents: Count = 20_000
    chains: Share | dict[str, Share] = 1.0
    talk_documents: Count = 2_000
    dialogue_documents: Count = 10_000
    samples: list[str] = []
    replay: list[str] = []
    replay_rows: Count = 1
    lora: Lora | None = None  # what learns beside weights that stay (model/lora.py)
    optim: OptimConfig = OptimConfig()
    schedule: Schedule = Schedule()
    objective: ObjectiveConfig = ObjectiveConfig()

    @model_validator(mode="after")
    def _possible(self):
        divides = self.context % (self.short_context or 1) == 0
        if bool(self.short_context) != bool(self.short) or not divides or not 0 <= self.short <= 1:
            raise ValueError(
                f"expected short_context to divide context = {self.context}, with a share `short` of the "
                f"steps, found {self.short_context} and {self.short}"
            )
        if unknown := set(self.shares) - set(KINDS):
            raise ValueError(f"`shares` has {sorted(unknown)}; known: {sorted(KINDS)}")
        families = "families and their levels"
        needs = (("tasks", "tasks", families), ("dialogues", "tasks", families))
        for kind, name, needed in (*needs, ("samples", "samples", "stages of kind reject")):
            if self.shares.get(kind) and not getattr(self, name):
                raise ValueError(f"`shares.{kind}` needs `{name}`: {needed}")
        return self

    @property
    def ramp(self) -> tuple[int, int, int]:
        """As schedule.rows_before takes it."""
        return self.rows, self.first_rows or self.rows, self.ramp_steps


def fit(
    session: Session,
    config: Config,
    recipe: Recipe,
    start: Start,
    *,
    fresh: bool = False,
    until: float | None = None,
) -> Fields:
    """Trains what begins with some weights on the stage's documents and saves it, as the stages that continue
    on other data do too; `until` as in s4_sft.py."""
    limits.check_stages(config, start.spec, session.mesh.axes)
    tokenizer = load_tokenizer(session.run)
    data = prepare(session, config, recipe, tokenizer)
    beside = prepare_replay(session, config, recipe, tokenizer)
    if fresh and config.weights == "counts":
        start = count_neighbours(session, start, data, recipe.key(config.name, "counts"))
    if session.mesh.size("pipeline") == 1:
        each = dtype_of(session, config.precision).itemsize
        rows = footprint.rows_at_once(config, start.spec, each, session.kernels)
        config = config.model_copy(update={"micro_rows": rows})
    model, pipeline = build(session, start, config.precision, learns(config, recipe))
    optimizer = Optimizer(model, config.optim, session.mesh, pipeline)
    learnt = Learnt(until, data)

    def compute(step: int) -> Gradient:
        batches = microbatches(rows_at(config, data, step), session.mesh)
        gradient = learnt.hear(accumulate(model, batches, config.objective, session.mesh, pipeline))
        if beside is None:
            return gradient
        batches = microbatches(replay_rows_at(config, beside, step), session.mesh)
        replayed = accumulate(model, batches, config.objective, session.mesh, pipeline)
        return both(gradient, replayed)

    how = {"extra": learnt.state, "enough": learnt.enough}
    n_steps = train(session, model, optimizer, config.schedule, config.steps, compute, **how)
    if n_steps < config.steps:
        note_once(session, f"ends behind step {n_steps} of {config.steps}: {learnt.says()}")
    return save_model(session, model, optimizer, tokenizer, config.source)


def both(taught: Gradient, replayed: Gradient) -> Gradient:
    """Of the sum of two losses, whose gradients are in the model already; `loss` stays the first."""

    def after() -> None:
        taught.after()
        replayed.after()

    return replace(
        taught,
        tokens=taught.tokens + replayed.tokens,
        flops_model=taught.flops_model + replayed.flops_model,
        flops_executed=taught.flops_executed + replayed.flops_executed,
        telemetry=taught.telemetry | {"replay_loss": replayed.loss},
        after=after,
    )


def learns(config: Config, recipe: Recipe) -> Learns:
    seed = recipe.key(config.name, "lora")
    return Learns(config.lora, seed, summed=config.micro_rows is not None, attended=config.context / 2)


def count_neighbours(session: Session, start: Start, data: Packed, key: int) -> Start:
    """The same, but for embedding and head, which rank 0 sets by counts over all the data."""

    def counted() -> tuple[Tensor, Tensor, int]:
        parts = [shard.tokens[:MOST_COUNTED] for shard in data.shards.values()]
        return from_bigrams(start.spec, np.concatenate(parts), key)

    with Work(session, "count neighbours") as work:
        embed, head, flops = session.mesh.lead(counted)
        work.fields["flops_executed"] = flops
    matrices = {"embed.weight": embed, "head.weight": head}

    def fill(tensors: Mapping[str, Tensor]) -> None:
        start.fill(tensors)
        for name in tensors.keys() & matrices:
            tensors[name].copy_(matrices[name])

    return Values(start.spec, fill)


def prepare(session: Session, config: Config, recipe: Recipe, tokenizer: Tokenizer) -> Packed:
    """Shards of each kind of document, made once, and the packed view of them."""
    root = session.directory / "data"
    shares = {kind: share for kind, share in config.shares.items() if share > 0}
    encoded = {}
    for kind in shares:
        path = root / kind
        with Work(session, f"encode {kind}"):
            if kind == "prose" and config.is_prepared:
                encoded[kind] = inputs.tokens(session, config, tokenizer)
                continue
            key = recipe.key(config.name, kind)
            session.lead(partial(encode, kind=kind, path=path, config=config, key=key, tokenizer=tokenizer))
            session.check_stop()
            encoded[kind] = shards.open(path)
        say_cut(session, kind, encoded[kind].offsets, encoded[kind].trained, config.context)
    return Packed(encoded, shares, config.context, recipe.key(config.name, "order"))


def prepare_replay(
    session: Session, config: Config, recipe: Recipe, tokenizer: Tokenizer
) -> Packed | None:
    """The packed view of what the model replied to general questions."""
    if not config.replay:
        return None
    alone = config.model_copy(update={"shares": {"replay": 1.0}})
    return prepare(session, alone, recipe, tokenizer)


def encode(
    session: Session, *, kind: str, path: Path, config: Config, key: int, tokenizer: Tokenizer
) -> None:
    """A shard of a kind of document, unless it is there."""
    if not (path.exists() and _said(session, config, kind)):
        made = documents_of(kind, session, config, key, tokenizer)
        shards.write(path, made, tokenizer.vocab_size)


def say_cut(
    session: Session, kind: str, offsets: np.ndarray, trained: np.ndarray, context: int
) -> None:
    """Into the log, once: how many conversations are longer than a row, how many leave nothing to learn.

    DataError where no reply begins in the row of its question.
    """
    cut, late, mute = shards.conversations_cut(offsets, trained, context)
    said = []
    if late and late + mute == len(offsets) - 1:
        raise inputs.no_reply(f"{session.stage}: {kind}", late + mute, context)
    if cut:
        said.append(f"{cut:,} are longer than rows of {context:,} tokens, and are cut")
    if late:
        said[-1] += f", {late:,} of these before their first reply"
    if mute:
        said.append(f"{mute:,} have nothing to learn")
    if said:
        note_once(session, f"{kind}: of {len(offsets) - 1:,} documents, {' and '.join(said)}")


def note_once(session: Session, text: str) -> None:
    if all(event["text"] != text for event in session.run.events("note", session.stage)):
        session.log("note", text=text)


def _said(session: Session, config: Config, kind: str) -> bool:
    """Whether the log says what the text of a shard was: of one that a kill came behind, it may not."""
    return kind != "prose" or any(what == "text" for what, _ in inputs.reads(session.run, config.name))


def documents_of(
    kind: str, session: Session, config: Config, key: int, tokenizer: Tokenizer
) -> Iterator[Rendered]:
    """The documents of one of KINDS."""
    if kind == "prose":
        return documents.prose(inputs.text(session, config), tokenizer)
    if kind == "tasks":
        return documents.worked(config.tasks, config.task_documents, config.chains, tokenizer, key)
    if kind == "dialogues":
        return documents.spoken(
            config.tasks, config.dialogue_documents, config.chains, tokenizer, key, config.context
        )
    if kind == "replay":
        return documents.replayed(inputs.samples(session, stage) for stage in config.replay)
    if kind == "samples":
        return documents.sampled([inputs.samples(session, stage) for stage in config.samples], tokenizer)
    return documents.talk(config.talk_documents, tokenizer, key)


def rows_at(config: Config, data: Packed, step: int) -> Rows:
    """What a step reads."""
    first = rows_before(step, *config.ramp)
    n = ramp_rows(step, *config.ramp)
    at_once = config.micro_rows
    if not config.short_context:
        return Rows(data, first, n, at_once)
    switch = int(config.short * config.steps)
    if step >= switch:
        first -= rows_before(switch, *config.ramp)
        return Rows(data, first, n, at_once)
    parts = config.context // config.short_context
    shorter = data.at(config.short_context)
    many = at_once and parts * at_once
    return Rows(shorter, parts * first, parts * n, many)


def replay_rows_at(config: Config, data: Packed, step: int) -> Rows:
    """What a step reads of replies."""
    n = config.replay_rows
    return Rows(data, n * step, n, config.micro_rows)


def optimising(spec: Spec, config: Config) -> int:
    """FLOPs of a step of the optimiser, none to speak of where only adapters learn."""
    return 0 if config.lora else estimate.newton_schulz(spec, config.optim)


def held(spec: Spec, recipe: Recipe, config: Config) -> float:
    """Bytes: of given models all, of others weights, gradients and optimiser."""
    if recipe.given:
        each = footprint.rows_at_once(
            config, spec, footprint.itemsize(config.precision), recipe.kernels
        )
        return footprint.learning(spec, recipe, config, (each or config.rows) * config.context)
    n_params = counts.params_total(spec) + counts.params_mtp(spec)
    return n_params * (4 * 3 + 4 + DTYPES[config.precision].itemsize)


def plan(config: Config, recipe: Recipe) -> Fields:
    spec, steps, T = recipe.shape(config), config.steps, config.context
    n_params = counts.params_total(spec) + counts.params_mtp(spec)
    tokens = T * rows_before(steps, *config.ramp)
    if config.replay:
        tokens += T * config.replay_rows * steps
    short = T * rows_before(int(config.short * steps), *config.ramp)
    flops = executed = 0.0
    for n_tokens, width in ((short, config.short_context or T), (tokens - short, T)):
        flops += n_tokens * counts.flops_train(spec, (width + 1) / 2)
        executed += n_tokens * counts.flops_train(spec, keys_read(recipe.kernels, width), recipe.kernels)
    slower = 2 if config.precision == "fp32" else 1
    n_bytes = estimate.text_bytes("train", config.text_bytes) if config.shares.get("prose") else 0
    n_held = estimate.largest_batch(config.text_bytes) if config.shares.get("prose") else 0
    n_documents = 0
    if config.shares.get("tasks"):
        n_documents += config.task_documents
    if config.shares.get("talk"):
        n_documents += config.talk_documents
    if config.shares.get("dialogues"):
        n_documents += round(config.dialogue_documents * (1 + estimate.EARLIER))
    learns = 2 / 3 if config.lora else 1.0
    return {
        "parameters": n_params,
        "active": counts.params_active(spec),
        "tokens": tokens,
        "flops": flops * learns,
        "memory_bytes": held(spec, recipe, config),
        "trained": learns * executed * slower + steps * optimising(spec, config),
        "host": estimate.encoding(n_documents, n_bytes) + estimate.saving(),
        "host_bytes": estimate.held("encoded", n_held),
    }
