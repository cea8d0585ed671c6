"""Model, tokenizer and chat template of a run or an exported directory."""

from dataclasses import dataclass
from pathlib import Path

from nomoat.config import DataError, nearest
from nomoat.model.transformer import Transformer
from nomoat.run.directory import Run
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import template
from nomoat.weights import directory as weights


@dataclass(frozen=True, slots=True)
class Loaded:
    """Model, tokenizer and chat template that belong together; the tokenizer is None where the directory has none."""

    model: Transformer
    tokenizer: Tokenizer | None
    template: str


def load(directory: str | Path, *, stage: str | None = None) -> Loaded:
    """What a run directory (its newest finished stage that left a model, or `stage`) or an exported directory holds."""
    root = Path(directory)
    if (root / "config.json").is_file():
        tokenizer = Tokenizer.load(root) if (root / "tokenizer.json").is_file() else None
        return Loaded(weights.load(root), tokenizer, template())
    if not (root / "events.jsonl").is_file():
        raise DataError(f"{root} has no config.json and no events.jsonl; expected an exported model or a run directory")
    ends = Run.open(root).events("stage_end")
    left = {e["stage"]: root / e["outputs"]["model"] for e in ends if e["outputs"].get("model")}  # the last end counts
    if stage is not None and stage not in left:
        raise DataError(f"{root}: stage `{stage}` left no model; {nearest(stage, list(left)) if left else 'none did'}")
    if not left:
        raise DataError(f"{root}: no finished stage left a model yet; finish the run with `nomoat run`")
    model_dir = left[stage or next(e["stage"] for e in reversed(ends) if e["stage"] in left)]
    tokenizers = [root / e["outputs"]["tokenizer"] for e in reversed(ends) if e["outputs"].get("tokenizer")]
    home = next((home for home in (model_dir, *tokenizers) if (home / "tokenizer.json").is_file()), None)
    return Loaded(weights.load(model_dir), Tokenizer.load(home) if home else None, template())
