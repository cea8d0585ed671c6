"""A model and its tokenizer, from wherever a person has it: a run, a directory, a GGUF file, a name."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nomoat.config import DataError, WeightsError
from nomoat.model.transformer import Transformer
from nomoat.report import card
from nomoat.report.card import Origin
from nomoat.report.panel import Panel, panel_of
from nomoat.run.directory import Run
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights import directory as weights
from nomoat.weights import known, peft, shelf
from nomoat.weights.directory import PANEL_FILE
from nomoat.weights.gguf import load as gguf
from nomoat.weights.gguf.header import Header
from nomoat.weights.gguf.vocabulary import tokenizer_of

CARD = "README.md"
PANEL = ("kinds", "examples")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model, the tokenizer that it was trained with, and where both are from; `run` if one trained it;
    `panel` if it is known what it was taught.
    """

    model: Transformer
    tokenizer: Tokenizer
    origin: Origin
    run: Path | None = None
    panel: Panel | None = None


def load(
    source: str | Path,
    stage: str | None = None,
    *,
    dtype: torch.dtype | None = torch.float32,
    say: Callable[[str], None] = lambda text: None,
) -> Loaded:
    """What an exported directory, a .gguf file or a known name holds (see weights.known), or what `stage` of
    a run left (RUN:STAGE; by default the best evaluated, see Run.weights), or of a model on the shelf.
    `dtype` None: that of a directory, and of a .gguf file float32.

    DataError where there is nothing of this kind, WeightsError where it can't be read or model and tokenizer
    do not belong together.
    """
    if stage is not None and not Path(source).exists() and shelf.named(str(source)):
        source, stage = f"{source}:{stage}", None
    root, stage = place_of(source, say, stage)
    if (root / "recipe.json").is_file():
        run = Run.open(root)
        left = run.weights(stage)
        left.check()
        tokenizer = Tokenizer.load(left.tokenizer.path, left.tokenizer.fingerprint)
        origin = Origin(left.stage, card.licence_of(run))
        panel = panel_of(run, left.stage)
        loaded = Loaded(weights.load(left.path, dtype=dtype), tokenizer, origin, root, panel)
    elif stage is not None:
        raise DataError(f"{root} is no run; expected one beside --stage {stage}; leave --stage out")
    elif is_gguf(root):
        header = Header.of(root)
        origin = Origin(root.name, _said(header), _card(root))
        panel = _panel_of(header)
        model = gguf.load(header, dtype=dtype or torch.float32)
        loaded = Loaded(model, tokenizer_of(header), origin, panel=panel)
    elif peft.is_adapter(root):
        return _adapted(root, say)
    elif (root / "config.json").is_file():
        ships = None if Path(source).exists() else shelf.named(str(source))
        loaded = _exported(root, ships.name if ships else root.resolve().name, dtype)
    else:
        raise DataError(
            f"{root} has no config.json and no recipe.json; expected a run, an exported model or a .gguf file"
        )
    _belong_together(loaded, root)
    return loaded


def _exported(root: Path, name: str, dtype: torch.dtype | None) -> Loaded:
    """What a directory holds, under the name that its cards are to say."""
    if not (root / "tokenizer.json").is_file():
        raise WeightsError(
            f"{root} has no tokenizer.json; expected one beside the weights; export them together"
        )
    origin = Origin(name, licence(root), _card(root))
    return Loaded(weights.load(root, dtype=dtype), Tokenizer.load(root), origin, panel=panel_in(root))


def place_of(
    source: str | Path, say: Callable[[str], None] = lambda text: None, stage: str | None = None
) -> tuple[Path, str | None]:
    """Where a model lies that is called so, as weights.known says, and `stage`; of RUN:STAGE the run and its
    stage."""
    run, colon, of_run = str(source).rpartition(":")
    if colon and not Path(source).exists() and (Path(run) / "recipe.json").is_file():
        return Path(run), of_run
    return known.locate(source, say), stage


def _adapted(root: Path, say: Callable[[str], None]) -> Loaded:
    """An adapter merged into its base, in float32."""
    adapter = peft.opened(root)
    based = load(base_of(adapter), say=say)
    n, gap = peft.apply(based.model, adapter)
    say(f"merged {n} matrices of {root} into {adapter.base}; logits as beside it, within {gap:.1g}")
    return replace(based, origin=Origin(root.resolve().name, based.origin.licence), run=None)


def base_of(adapter: peft.Adapter) -> str:
    if adapter.base is None:
        raise WeightsError(
            f"{adapter.directory / peft.CONFIG} names no base_model_name_or_path; expected the model that it "
            "was made for: a directory, a known name; add it"
        )
    return adapter.base


def is_gguf(root: Path) -> bool:
    """Whether it is one file, which only a GGUF can be; DataError for a part of a directory."""
    if root.suffix in (".safetensors", ".json", ".jinja"):
        raise DataError(f"{root} is part of a model; expected the whole; name its directory {root.parent}")
    return root.is_file()


def licence(root: Path) -> str | None:
    """What a .gguf file says, or the front matter of a directory's README.md."""
    if root.is_file():
        return _said(Header.of(root))
    text = _card(root) or ""
    front = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
    found = re.search(r"^license: *([^\s#]+)", front, re.MULTILINE)
    return found[1] if found else None


def _card(root: Path) -> str | None:
    """What lies beside the weights, a GGUF file's under its own name."""
    readme = root / CARD if root.is_dir() else root.with_name(f"{root.name}.{CARD}")
    return readme.read_text("utf-8", "replace") if readme.is_file() else None


def panel_in(root: Path) -> Panel | None:
    """What an exported directory says that its model was taught; None in one of others."""
    file = root / PANEL_FILE
    try:
        return Panel.from_json(json.loads(file.read_text("utf-8"))) if file.is_file() else None
    except (ValueError, RecursionError):
        return None


def _panel_of(header: Header) -> Panel | None:
    return Panel.from_json({name: header.meta.get(f"nomoat.{name}", []) for name in PANEL})


def _said(header: Header) -> str | None:
    said = header.meta.get("general.license")
    return said if isinstance(said, str) else None


def _belong_together(loaded: Loaded, root: Path) -> None:
    n_tokens, n_rows = loaded.tokenizer.vocab_size, loaded.model.spec.vocab_size
    if n_tokens > n_rows:
        raise WeightsError(
            f"the tokenizer in {root} has {n_tokens} tokens and the model {n_rows}: "
            "they do not belong together; restore the one that it was trained with"
        )
