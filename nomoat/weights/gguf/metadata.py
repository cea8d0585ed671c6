"""Metadata of a GGUF file, key by key, with an error for what is missing or of another type."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from nomoat.config import WeightsError


@dataclass(frozen=True)
class Metadata:
    """The keys of one file; `facts.NAME` stands for `ARCHITECTURE.NAME`."""

    path: Path
    table: Mapping[str, Any]

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    def text(self, key: str, absent: str | None = None) -> str:
        return self._typed(key, absent, str, "a text")

    def fact(self, key: str, absent: int | None = None) -> int:
        """A whole number of the architecture."""
        value = self._typed(f"{self.architecture}.{key}", absent, int, "a whole number")
        if isinstance(value, bool):
            raise self._wrong(f"{self.architecture}.{key}", value, "a whole number")
        return value

    def real(self, key: str, absent: float | None = None) -> float:
        """A number of the architecture, as the shortest decimal that is the file's float32."""
        value = self._typed(f"{self.architecture}.{key}", absent, (float, int), "a number")
        return decimal(value)

    def holds(self, key: str) -> bool:
        return f"{self.architecture}.{key}" in self.table

    def flag(self, key: str, absent: bool) -> bool:
        return self._typed(f"{self.architecture}.{key}", absent, bool, "true or false")

    def _typed(self, key: str, absent: Any, kind: Any, expected: str) -> Any:
        value = self.table.get(key, absent)
        if not isinstance(value, kind):
            raise self._wrong(key, value, expected)
        return value

    def _wrong(self, key: str, value: object, expected: str) -> WeightsError:
        found = "no " if key not in self.table else ""
        shown = "" if found else f" = {str(value)[:40]!r}"
        return WeightsError(
            f"{self.path} has {found}{key}{shown}; expected {expected}; fetch or export the file again"
        )


def decimal(value: float) -> float:
    """1e-06 for the float32 that is nearest to it."""
    with numpy.errstate(over="ignore"):
        return float(str(numpy.float32(value)))
