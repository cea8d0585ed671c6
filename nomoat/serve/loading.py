"""A model and its tokenizer, from an exported directory or from a run."""

from dataclasses import dataclass
from pathlib import Path

from nomoat.config import DataError, WeightsError
from nomoat.model.transformer import Transformer
from nomoat.run.directory import Run
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights import directory as weights


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model and the tokenizer that it was trained with."""

    model: Transformer
    tokenizer: Tokenizer


def load(directory: str | Path, stage: str | None = None) -> Loaded:
    """What an exported directory holds, or what `stage` of a run left (by default the best evaluated; see
    Run.weights).

    DataError where neither is there, WeightsError where model and tokenizer do not belong together.
    """
    root = Path(directory)
    if (root / "config.json").is_file():
        if not (root / "tokenizer.json").is_file():
            raise WeightsError(
                f"{root} has no tokenizer.json; expected one beside the weights; export them together"
            )
        loaded = Loaded(weights.load(root), Tokenizer.load(root))
    elif (root / "recipe.json").is_file():
        left = Run.open(root).weights(stage)
        tokenizer = Tokenizer.load(left.tokenizer.path, left.tokenizer.fingerprint)
        loaded = Loaded(weights.load(left.path), tokenizer)
    else:
        raise DataError(
            f"{root} has no config.json and no recipe.json; expected an exported model or a run directory"
        )
    n_tokens, n_rows = loaded.tokenizer.vocab_size, loaded.model.spec.vocab_size
    if n_tokens > n_rows:
        raise WeightsError(
            f"the tokenizer in {root} has {n_tokens} tokens and the model {n_rows}: "
            "they do not belong together; restore the one that it was trained with"
        )
    return loaded
