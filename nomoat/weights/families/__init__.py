"""Published architectures: `model_type` of a config.json -> the module that knows its names.

A family is one file with four functions: `spec_of(config, names)`, `config_of(spec)`, `slots(model)`,
`copies(model)`.
"""

import importlib
from types import ModuleType

from nomoat.config import WeightsError

FAMILIES = {"deepseek_v3": "deepseek"}


def family(model_type: str) -> ModuleType:
    """The module of a family; WeightsError for one that isn't known."""
    if model_type not in FAMILIES:
        raise WeightsError(
            f"config.json has model_type {model_type!r}; expected one of {', '.join(sorted(FAMILIES))}; "
            "other models don't load here"
        )
    return importlib.import_module(f"nomoat.weights.families.{FAMILIES[model_type]}")
