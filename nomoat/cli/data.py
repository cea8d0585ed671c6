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


def data(
    action: Positional[Literal["show"]],
    file: Positional[Annotated[Path, said("a .txt, .jsonl or .parquet file, or a folder", "FILE")]],
    /,
    *,
    tokenizer: Annotated[
        Path | None, said("of a run or a model's directory (default: bytes)", "DIR")
    ] = None,
    limit: Annotated[int, said("how many documents", "N", aliases=["-n"])] = 3,
) -> int:
    """See what is learnt: the targets of the loss behind a +."""
    if limit < 1:
        raise ConfigError(f"--limit {limit}; expected 1 or more")
    from nomoat.data import shown

    for line in shown.show(file, _tokenizer(tokenizer), limit, say.width()):
        say.result(visible(line))
    return 0


def _tokenizer(directory: Path | None) -> "Tokenizer":
    from nomoat.tokenizer import bpe

    if directory is None:
        return bpe.train([" "], bpe.SMALLEST_VOCAB)
    if (directory / "recipe.json").is_file():
        files = Run.open(directory).tokenizer()
        return bpe.Tokenizer.load(files.path, files.fingerprint)
    return bpe.Tokenizer.load(directory)
