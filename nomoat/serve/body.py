"""What all bodies have in common."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """Base of all bodies: strict values, other fields passed over."""

    refused: ClassVar[
        Mapping[str, tuple[Any, ...]]
    ] = {}  # fields of its standard -> values that ask for nothing
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, frozen=True)
