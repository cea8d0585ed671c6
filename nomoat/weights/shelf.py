"""The shelf: trained models that ship with the package.  `scripts/shelve.py` fills it from a finished run.

    nomoat/shelf/NAME/shelf.json     which stages, which of them is meant by the name alone, what they score
    nomoat/shelf/NAME/STAGE/         a Hugging Face directory with its card
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.config import ConfigError, WeightsError, nearest
from nomoat.files import read_json

SHELF = Path(__file__).parents[1] / "shelf"
FILE = "shelf.json"


@dataclass(frozen=True, slots=True)
class Shelved:
    """One stage of a model on the shelf."""

    model: str
    stage: str
    default: bool  # whether the model's name alone means it
    path: Path
    facts: dict[str, Any]  # parameters, active, bytes, sha256, right: see scripts/shelve.py

    @property
    def name(self) -> str:
        """What a person types."""
        return self.model if self.default else f"{self.model}:{self.stage}"


def shelved(shelf: Path | None = None) -> list[Shelved]:
    """What ships, each model's default first; the first of all is what a chat without a name opens."""
    found = []
    for file in sorted((shelf or SHELF).glob(f"*/{FILE}")):
        table = read_json(file, WeightsError, "what ships with the package", "install it again")
        names = sorted(table["stages"], key=lambda stage: stage != table["default"])
        model = file.parent.name
        of_model = {stage: file.parent / stage for stage in names}
        found += [
            Shelved(model, stage, stage == table["default"], path, table["stages"][stage])
            for stage, path in of_model.items()
        ]
    return found


def named(name: str, shelf: Path | None = None) -> Shelved | None:
    """The one that is meant by MODEL or MODEL:STAGE; None if no such model ships, WeightsError if it has no
    such stage.
    """
    model, _, stage = name.partition(":")
    stages = {one.stage: one for one in shelved(shelf) if one.model == model}
    if not stages:
        return None
    if not stage:
        return next(iter(stages.values()))
    if stage not in stages:
        raise WeightsError(f"{model} has no stage `{stage}`; {nearest(stage, list(stages))}")
    return stages[stage]


def first(shelf: Path | None = None) -> str:
    """The name that a chat without one opens; ConfigError where nothing ships."""
    for one in shelved(shelf):
        return one.name
    raise ConfigError(
        "no model ships with this installation; expected one: a run, an exported directory, a .gguf file or "
        "smollm2; make one with `nomoat run cpu`, then `nomoat chat runs/cpu`"
    )
