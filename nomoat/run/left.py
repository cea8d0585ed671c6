"""What a finished stage left to be opened: weights and a tokenizer."""

from dataclasses import dataclass
from pathlib import Path

from nomoat.config import JsonObject, WeightsError
from nomoat.files import sha256


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """The tokenizer that a run trained."""

    path: Path  # its directory
    fingerprint: str  # sha256 of its tokenizer.json

    def check(self) -> None:
        """WeightsError for a file that is gone or another one by now."""
        file = self.path / "tokenizer.json"
        found = sha256(file) if file.is_file() else "nothing"
        if found != self.fingerprint:
            raise WeightsError(
                f"{self.path} is not the tokenizer that this run trained (found {found[:12]}, expected "
                f"{self.fingerprint[:12]}); restore it"
            )


@dataclass(frozen=True, slots=True)
class StageWeights:
    """What a finished stage left to be opened, and what belongs to it."""

    stage: str
    path: Path  # the model's directory
    spec: JsonObject  # the model's Spec as a table
    tokenizer: TokenizerFiles
    sha256: str | None = None  # of its files, where the stage said so

    def check(self) -> None:
        """WeightsError for files that are gone or have changed since the stage left them."""
        if not self.path.exists():
            found = f"nothing at {self.path}, where stage {self.stage} left its model"
            raise WeightsError(f"{found}; restore it, or run again in another --out")
        found = self.sha256 and sha256(self.path)
        if found != self.sha256:
            raise WeightsError(
                f"{self.path} is not what stage {self.stage} left (its files have sha256 {found[:12]}, "
                f"expected {self.sha256[:12]}); restore it, or run again in another --out"
            )
        self.tokenizer.check()
