"""The verb for what training reads: to look at it, and to prepare what is too much to read each time."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional

from nomoat.cli import say
from nomoat.cli.args import only, said
from nomoat.config import ConfigError, JsonObject, override, parse
from nomoat.files import visible
from nomoat.run.directory import Run

if TYPE_CHECKING:
    from nomoat.data.sources import DataSet
    from nomoat.tokenizer.bpe import Tokenizer

READ = {
    "show": ("tokenizer", "limit"),
    "prepare": ("tokenizer", "hub", "out", "workers", "column", "min_chars", "dedup", "decontaminate",
                "machine", "plan"),
}  # fmt: skip
GREEN, PLAIN = "\x1b[32m", "\x1b[0m"


def data(
    action: Positional[Literal["show", "prepare"]],
    files: Positional[
        Annotated[tuple[Path, ...], said("texts: .txt, .jsonl(.gz, .zst), .parquet, folders", "FILE")]
    ],
    /,
    *,
    tokenizer: Annotated[
        str | None, said("of a run, directory, .gguf, name (show: or bytes)", "MODEL")
    ] = None,
    hub: Annotated[
        tuple[str, ...], said("prepare: data sets, NAME or a recipe's {name = …}", "DATA_SET")
    ] = (),
    limit: Annotated[int, said("show: how many documents", "N", aliases=["-n"])] = 3,
    out: Annotated[Path | None, said("prepare: where to; the same command goes on", "DIR")] = None,
    workers: Annotated[int | None, said("processes (default: one a core)", "N")] = None,
    column: Annotated[str | None, said("that holds the texts or messages", "NAME")] = None,
    min_chars: Annotated[int, said("leave out shorter texts", "N")] = 0,
    dedup: Annotated[bool, said("leave out near duplicates (MinHash)")] = False,
    decontaminate: Annotated[
        tuple[str, ...], said("leave out what shares 13 words: heldout, FILE", "WHAT")
    ] = (),
    machine: Annotated[str | None, said("the I-th of N that share DIR", "I/N")] = None,
    plan: Annotated[bool, said("time a sample; what all would take, and 1 TB")] = False,
) -> int:
    """Show what is learnt of a file, or prepare text as tokens."""
    only(data, locals(), f"data {action}", READ[action])
    if not files and not (hub and action == "prepare"):
        raise ConfigError("no FILE; expected a text or a folder of them: name one")
    if action == "show":
        return _show(files, tokenizer, limit)
    from nomoat.data.units import Choices

    if tokenizer is None or out is None:
        missing = "--tokenizer" if tokenizer is None else "--out"
        raise ConfigError(f"data prepare without {missing}; expected --tokenizer MODEL --out DIR: add it")
    chosen = {"column": column, "min_chars": min_chars, "near_duplicates": dedup}
    choices = parse(Choices, {**chosen, "decontaminate": decontaminate}, "data prepare")
    from nomoat.data import preparing

    data_sets = [_data_set(text) for text in hub]
    n_workers = workers or _cores()
    asked = preparing.Asked(files, _tokenizer(tokenizer), out, choices, n_workers, machine, data_sets)
    if plan:
        return say.result(preparing.estimated(asked))
    return say.result(preparing.prepared(asked, say.aside))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _data_set(text: str) -> "DataSet":
    """A data set as in a recipe: its name, or a table."""
    from nomoat.data.sources import DataSet

    recipe: JsonObject = {}
    override(recipe, f"hub={text}")
    table = recipe["hub"]
    if text.startswith("{") and not isinstance(table, dict):
        raise ConfigError(f'--hub {text} is no table; expected NAME or {{name = "NAME", config = "…"}}')
    return parse(DataSet, table if isinstance(table, dict) else {"name": text}, "--hub")


def _show(files: tuple[Path, ...], tokenizer: str | None, limit: int) -> int:
    from nomoat.data import shown

    paint = say.paints()
    read = _tokenizer(tokenizer)
    for file in files:
        for line in shown.show(file, read, limit, say.width()):
            plain = visible(line)
            say.result(f"{GREEN}{plain}{PLAIN}" if paint and shown.is_learnt(line) else plain)
    return 0


def _tokenizer(model: str | None) -> "Tokenizer":
    from nomoat.serve import loading
    from nomoat.tokenizer import bpe
    from nomoat.weights.gguf.header import Header
    from nomoat.weights.gguf.vocabulary import tokenizer_of

    if model is None:
        return bpe.train([" "], bpe.SMALLEST_VOCAB)
    place, _ = loading.place_of(model, say.aside)
    if (place / "recipe.json").is_file():
        files = Run.open(place).tokenizer()
        return bpe.Tokenizer.load(files.path, files.fingerprint)
    return tokenizer_of(Header.of(place)) if loading.is_gguf(place) else bpe.Tokenizer.load(place)
