"""What a model is, from its headers alone: family, size, precision, context, template, what fits and what
doesn't.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.config import DataError, UserError
from nomoat.run.directory import Run
from nomoat.serve.loading import is_gguf, licence
from nomoat.tokenizer import layout
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights.facts import Facts, describe
from nomoat.weights.gguf.header import Header
from nomoat.weights.gguf.load import facts_of
from nomoat.weights.gguf.vocabulary import tokenizer_of

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


def inspect(root: Path) -> Inspected:
    """A run (its best model), a directory or a .gguf file; reads no weights.

    DataError where there is none, WeightsError for what can't be read.
    """
    if (root / "recipe.json").is_file():
        left = Run.open(root).weights()
        files, tokens = describe(left.path), left.tokenizer.path
    elif is_gguf(root):
        header = Header.of(root)
        files, tokens = facts_of(header), root
    elif (root / "config.json").is_file():
        files, tokens = describe(root), root
    else:
        raise DataError(
            f"{root} has no config.json and no recipe.json; expected a run, an exported model or a .gguf file"
        )
    facts = _said_of(files) | {"licence": licence(root) or "not said"}
    try:
        tokenizer = tokenizer_of(header) if root.is_file() else Tokenizer.load(tokens)
        facts |= _tokens(tokenizer)
        example = _example(tokenizer)
    except UserError as error:
        example = f"(none: {error})"
    return Inspected(facts, example)


def _said_of(files: Facts) -> dict[str, Any]:
    spec = files.spec
    cached = spec.n_layers * sum(spec.attention.d_cached) * spec.context
    return {
        "family": files.family,
        "parameters": files.parameters,
        "active parameters": files.active,
        "layers": spec.n_layers,
        "width": spec.d_model,
        "vocabulary": spec.vocab_size,
        "context": spec.context,
        "numbers": files.dtypes,
        "bytes": files.n_bytes,
        "files": files.n_shards,
        "bytes to chat, float32": 4 * files.parameters,
        "bytes of a full cache": 4 * cached,
        "bytes to train, AdamW in float32, without activations": 16 * files.parameters,
        "missing": list(files.missing),
        "unknown": list(files.surplus),
        "of another shape": list(files.misshapen),
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
