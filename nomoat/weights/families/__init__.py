"""Published architectures: `model_type` of a config.json -> the module that knows its names.

A family is one file with four functions: `spec_of(config, names)`, `config_of(spec)`, `slots(model)`,
`copies(model)`; docs/families.md says how to add one.
"""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from nomoat.config import WeightsError
from nomoat.model.spec import Spec

FAMILIES = {  # in the order in which `chosen` asks who can say a model
    "deepseek_v3": "deepseek_v3", "deepseek_v2": "deepseek_v2", "qwen2": "qwen2", "llama": "llama",
    "qwen3": "qwen3", "qwen3_moe": "qwen3_moe", "smollm3": "smollm3", "olmo2": "olmo2",
}  # fmt: skip


def family(model_type: str) -> ModuleType:
    """The module of a family; WeightsError for one that isn't known."""
    if model_type not in FAMILIES:
        raise WeightsError(
            f"model_type {model_type!r} is not known here; expected one of {', '.join(FAMILIES)}; "
            "docs/families.md says how to add one"
        )
    return importlib.import_module(f"nomoat.weights.families.{FAMILIES[model_type]}")


def of_config(config: Mapping[str, Any]) -> ModuleType:
    """The family of a config.json.  Code that it names (`auto_map`) is never fetched or run."""
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type in FAMILIES:
        return family(model_type)
    architectures = f", architectures {config['architectures']}" if config.get("architectures") else ""
    code = " and code of its own (auto_map), which is never run here" if "auto_map" in config else ""
    raise WeightsError(
        f"config.json has model_type {model_type!r}{architectures}{code}; expected one of "
        f"{', '.join(FAMILIES)}; other models don't load here"
    )


def chosen(spec: Spec) -> str:
    """The first family that can say a model; WeightsError with each one's reason where none can."""
    reasons = []
    for model_type in FAMILIES:
        try:
            family(model_type).config_of(spec)
        except WeightsError as error:
            found_and_expected = str(error).split("; ")[:2]
            reasons.append(f"  {model_type}: {'; '.join(found_and_expected)}")
        else:
            return model_type
    raise WeightsError("no published architecture is this model's:\n" + "\n".join(reasons))
