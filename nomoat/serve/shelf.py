"""The models that a server has, by name; those of a run's stages are loaded when they are first asked for."""

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from nomoat.config import ConfigError, JsonObject, UserError, nearest
from nomoat.engine.blocks import BLOCK
from nomoat.engine.draft import Drafts
from nomoat.engine.engine import CACHE_BYTES, Engine, Limits
from nomoat.engine.generate import products_for
from nomoat.engine.native.layout import Precision
from nomoat.run.directory import Run
from nomoat.serve import inspecting
from nomoat.serve.loading import Loaded, load
from nomoat.serve.refusal import Refusal
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights import known, shelf

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,95}")
Stored = Literal["f32", "bf16", "int8"]
KINDS: dict[Stored, tuple[torch.dtype, Precision]] = {
    "f32": (torch.float32, "as is"),
    "bf16": (torch.bfloat16, "bf16"),
    "int8": (torch.float32, "int8"),
}
BYTES: dict[Stored, float] = {"f32": 4, "bf16": 2, "int8": 1}  # of a parameter, about
DRAFTS: Drafts = "lookup"  # of one to four replies, while it pays
STEP_TOKENS = 128  # of a step: for so long a row that goes on waits, and a cancelled one computes


@dataclass(frozen=True, slots=True)
class Served:
    """A model that is loaded: what routes need to know of it."""

    name: str
    engine: Engine
    tokenizer: Tokenizer
    fingerprint: str  # of the weights

    @property
    def context(self) -> int:
        return self.engine.model.spec.context

    @property
    def longest(self) -> int:
        """How many tokens a prompt and its reply can have together."""
        return min(self.context, self.engine.blocks.n * BLOCK)


@dataclass(slots=True, eq=False)
class Entry:
    """A model that can be asked for."""

    name: str
    source: str
    stage: str | None = None
    served: Served | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Shelf:
    """The models of a server; the first one is meant where none is named."""

    def __init__(
        self, entries: Sequence[Entry], rows: int, *, stored: Stored = "f32", cache_bytes: int = CACHE_BYTES
    ):
        self.entries = {entry.name: entry for entry in entries}
        self.stored, self.rows, self.limits = stored, rows, Limits(rows, STEP_TOKENS, cache_bytes)

    async def get(self, name: str | None) -> Served:
        """The model of this name, loaded; Refusal where there is none, or its files can't be read."""
        entry = next(iter(self.entries.values())) if name is None else self.entries.get(name)
        if entry is None:
            raise Refusal(
                f"no model {name[:96]!r} here; {nearest(name[:96], list(self.entries))}",
                "model",
                status=404,
                code="model_not_found",
            )
        if entry.served is None:
            async with entry.lock:
                if entry.served is None:
                    try:
                        entry.served = await asyncio.to_thread(self.load, entry)
                    except UserError as error:
                        raise Refusal(str(error), "model", status=503, code="model_not_loaded") from None
        return entry.served

    def load(self, entry: Entry, say: Callable[[str], None] = lambda text: None) -> Served:
        """The entry's model in an engine of its own; UserError as `loading.load`."""
        dtype, precision = KINDS[self.stored]
        loaded = load(entry.source, entry.stage, dtype=dtype, say=say)
        engine = self.engine(loaded, precision)
        return Served(entry.name, engine, loaded.tokenizer, fingerprint(engine, loaded.tokenizer))

    def engine(self, loaded: Loaded, precision: Precision) -> Engine:
        model, tokenizer = loaded.model.eval(), loaded.tokenizer
        products = products_for(precision, model.device)
        return Engine(model, self.limits, tokenizer=tokenizer, precision=products, drafts=DRAFTS)


def described(entry: Entry, stored: Stored) -> JsonObject:
    """What an entry's headers say; errors as `loading.load`, but for what only the weights show."""
    if not known.at_hand(entry.source):
        megabytes = known.KNOWN[entry.source].megabytes
        told = {"model": entry.name, "from": f"fetched when first asked for, {megabytes} MB"}
        return told | dict.fromkeys(("parameters", "context", "bytes", "bytes of a full cache"), "")
    root = known.locate(entry.source)
    if entry.stage is not None:
        root = Run.open(root).weights(entry.stage).path
    facts = inspecting.inspect(root).facts
    return {
        "model": entry.name,
        "from": str(root),
        "parameters": facts["parameters"],
        "context": facts["context"],
        "bytes": int(facts["parameters"] * BYTES[stored]),
        "bytes of a full cache": facts["bytes of a full cache"],
    }


def fingerprint(engine: Engine, tokenizer: Tokenizer) -> str:
    """Of the weights, by the first and last numbers of each matrix, and of the tokenizer."""
    digest = hashlib.sha256(tokenizer.fingerprint.encode())
    for name, parameter in engine.model.named_parameters():
        ends = torch.cat([parameter.detach().flatten()[:16], parameter.detach().flatten()[-16:]])
        digest.update(f"{name}{tuple(parameter.shape)}".encode() + ends.float().numpy().tobytes())
    return f"fp_{digest.hexdigest()[:12]}"


def entries_of(source: str, name: str | None = None) -> list[Entry]:
    """What a source gives under a name of its own or the given one: a run its best model, and each stage's as
    NAME:STAGE; so does a model that ships.

    ConfigError for a name that can't be one, WeightsError for a stage that did not ship.
    """
    root = Path(source)
    ships = None if root.exists() else shelf.named(source)
    if ships and name is None:
        name = source
    name = name or re.sub(r"[^A-Za-z0-9._-]", "-", root.resolve().stem if root.is_file() else root.name)
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"`{name}` can't name a model; expected letters, digits and ._:/- ; --model NAME={source}"
        )
    if ships and source == ships.model:
        stages = [one.stage for one in shelf.shelved() if one.model == source]
        return [Entry(name, source), *(Entry(f"{name}:{stage}", f"{source}:{stage}") for stage in stages)]
    if not (root / "recipe.json").is_file():
        return [Entry(name, source)]
    run = Run.open(root)
    best, stages = run.weights().stage, run.all_weights()
    return [Entry(name, source, best), *(Entry(f"{name}:{stage}", source, stage) for stage in stages)]


def entries(sources: Sequence[str], named: Sequence[str]) -> list[Entry]:
    """The entries of all sources, `named` ones being NAME=SOURCE; where there are none, of the first model
    that ships, and of the known names beside it.  ConfigError for two of one name.
    """
    if not sources and not named:
        sources = [shelf.first(), *known.openable()]
    found = [entry for source in sources for entry in entries_of(source)]
    for text in named:
        name, equals, source = text.partition("=")
        if not equals or not name or not source:
            raise ConfigError(f"--model {text}; expected NAME=SOURCE, as --model small=smollm2")
        found += entries_of(source, name)
    names = [entry.name for entry in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"two models are called `{name}`; expected each name once; --model OTHER=SOURCE"
            )
    return found
