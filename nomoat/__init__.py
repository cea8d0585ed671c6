"""nomoat: a reasoning chatbot the way DeepSeek built it, at any budget.

    model, tokenizer, layout = nomoat.load("runs/cpu")      # or a directory, a .gguf file, "smollm2"
    logits_BTV = model(ids_BT)                               # float32
    nomoat.save(model, "out", tokenizer)                     # a Hugging Face directory
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nomoat.model.transformer import Transformer
    from nomoat.tokenizer.bpe import Tokenizer
    from nomoat.tokenizer.layout import Layout

__version__ = "0.1.0"


def load(path: str | Path, stage: str | None = None) -> "tuple[Transformer, Tokenizer, Layout]":
    """Model (in evaluation mode, float32), tokenizer and layout of a run, an exported directory, a .gguf file
    or a known name; errors as serve.loading.load.
    """
    from nomoat.serve import loading

    loaded = loading.load(path, stage)
    return loaded.model, loaded.tokenizer, loaded.tokenizer.layout


def save(model: "Transformer", directory: str | Path, tokenizer: "Tokenizer | None" = None) -> None:
    """Write a new Hugging Face directory, read it back and compare; errors as weights.export.to_directory."""
    from nomoat.weights import export

    export.to_directory(export.without_depths(model), Path(directory), tokenizer=tokenizer)
