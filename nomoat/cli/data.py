"""The verb that looks at what training reads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional

from nomoat.cli import say
from nomoat.cli.args import said
from nomoat.config import ConfigError
from nomoat.files import visible
from nomoat.run.directory import Run

if TYPE_CHECKING:
    from nomoat.tokenizer.bpe import Tokenizer

GREEN, PLAIN = "\x1b[32m", "\x1b[0m"


def data(
    action: Positional[Literal["show"]],
    file: Positional[Annotated[Path, said("a .txt, .jsonl or .parquet file, or a folder", "FILE")]],
    /,
    *,
    tokenizer: Annotated[
        str | None, said("of a run, a directory, a .gguf file, a name (default: bytes)", "MODEL")
    ] = None,
    limit: Annotated[int, said("how many documents", "N", aliases=["-n"])] = 3,
) -> int:
    """See what is learnt: the loss's targets, behind a +."""
    if limit < 1:
        raise ConfigError(f"--limit {limit}; expected 1 or more")
    from nomoat.data import shown

    paint = say.paints()
    for line in shown.show(file, _tokenizer(tokenizer), limit, say.width()):
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
