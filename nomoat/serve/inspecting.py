"""What a model is, from its headers alone: family, size, precision, context, template, what fits and what
doesn't.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nomoat.config import DataError, UserError
from nomoat.model import counts
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer
from nomoat.run.directory import Run
from nomoat.serve.loading import is_gguf, licence
from nomoat.tokenizer import layout
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights import families
from nomoat.weights.files import Tensors, json_of
from nomoat.weights.gguf import load as gguf
from nomoat.weights.gguf.header import Header
from nomoat.weights.gguf.vocabulary import tokenizer_of
from nomoat.weights.slots import differences

EXAMPLE = (layout.Message("user", "What is 2+3?"),)


@dataclass(frozen=True)
class Inspected:
    """Facts by name, as --json prints them; `example` is a question as the template writes it."""

    facts: dict[str, Any]
    example: str

    def text(self) -> str:
        """A fact a line, then the example."""
        width = max(map(len, self.facts))
        lines = [f"{name:<{width}}  {_said(value)}" for name, value in self.facts.items()]
        return "\n".join([*lines, "", "a question, as its template writes it:", self.example])


@dataclass(frozen=True)
class _Files:
    """What the headers of a model say: a dtype and a number of bytes for each tensor."""

    family: str
    spec: Spec
    expected: Collection[str]
    kinds: Mapping[str, str]
    n_bytes: int
    n_files: int


def inspect(root: Path) -> Inspected:
    """A run (its best model), a directory or a .gguf file; reads no weights.

    DataError where there is none, WeightsError for what can't be read.
    """
    if (root / "recipe.json").is_file():
        left = Run.open(root).weights()
        files, tokens = _of_directory(left.path), left.tokenizer.path
    elif is_gguf(root):
        files, tokens = _of_gguf(root), root
    elif (root / "config.json").is_file():
        files, tokens = _of_directory(root), root
    else:
        raise DataError(
            f"{root} has no config.json and no recipe.json; expected a run, an exported model or a .gguf file"
        )
    facts = _facts(files) | {"licence": licence(root) or "not said"}
    try:
        tokenizer = tokenizer_of(Header.of(root)) if root.is_file() else Tokenizer.load(tokens)
        facts |= _tokens(tokenizer)
        example = _example(tokenizer)
    except UserError as error:
        example = f"(none: {error})"
    return Inspected(facts, example)


def _of_directory(root: Path) -> _Files:
    config = json_of(root / "config.json")
    family = families.of_config(config)
    tensors = Tensors.of(root)
    spec = family.spec_of(config, set(tensors.names))
    with torch.device("meta"):
        model = Transformer(spec)
    entries = tensors.entries
    expected = set(family.slots(model))
    expected |= family.copies(model).keys() & entries.keys()
    expected |= {name for name in entries if name.endswith("_scale_inv")}
    kinds, paths, n_bytes = {}, set(), 0
    for name, entry in entries.items():
        kinds[name] = str(entry.dtype).removeprefix("torch.")
        paths.add(entry.path)
        n_bytes += entry.n_bytes
    return _Files(config["model_type"], spec, expected, kinds, n_bytes, len(paths))


def _of_gguf(root: Path) -> _Files:
    header = Header.of(root)
    spec = gguf.spec_of(header)
    with torch.device("meta"):
        model = Transformer(spec)
    expected = gguf.expected(model, header)
    kinds = {name: place.kind.name for name, place in header.tensors.items()}
    n_bytes = sum(place.n_bytes for place in header.tensors.values())
    family = header.meta["general.architecture"]
    n_files = len(header.files)
    return _Files(family, spec, expected, kinds, n_bytes, n_files)


def _facts(files: _Files) -> dict[str, Any]:
    spec = files.spec
    total = counts.params_total(spec)
    cache = 4 * spec.n_layers * sum(spec.attention.d_cached) * spec.context
    return {
        "family": files.family,
        "parameters": total,
        "active parameters": counts.params_active(spec),
        "layers": spec.n_layers,
        "width": spec.d_model,
        "vocabulary": spec.vocab_size,
        "context": spec.context,
        "tensors": dict(Counter(files.kinds.values())),
        "bytes": files.n_bytes,
        "files": files.n_files,
        "bytes to chat, float32": 4 * total,
        "bytes of a full cache": cache,
        "bytes to train, AdamW in float32, without activations": 16 * total,
        **differences(files.expected, files.kinds),
    }


def _tokens(tokenizer: Tokenizer) -> dict[str, Any]:
    frame = tokenizer.layout
    spelled = {id: text for text, id in frame.specials.items()}
    return {
        "ends a reply": [spelled[id] for id in frame.stop_ids],
        "think marks": [spelled[id] for id in (frame.think_id, frame.end_think_id) if id is not None],
    }


def _example(tokenizer: Tokenizer) -> str:
    ids = layout.render(tokenizer, EXAMPLE, generate=True).ids
    return tokenizer.decode(ids, specials=True)


def _said(value: object) -> str:
    """A fact as a person reads it."""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{n:,} {name}" for name, n in value.items())
    if isinstance(value, list):
        shown = ", ".join(map(str, value[:6])) + (", …" if len(value) > 6 else "")
        return shown or "none"
    return str(value)
