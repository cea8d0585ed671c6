"""Stage 4: supervised fine-tuning, the cold start: worked solutions and conversation, loss on the assistant's tokens.

Prose rows go on beside them (`shares.prose`), so that what pretraining taught is not forgotten.
"""

from typing import Any, Literal

from nomoat.stages import s2_pretrain
from nomoat.stages.common import load_model
from nomoat.stages.recipe import Recipe
from nomoat.train.loop import Session


class Config(s2_pretrain.Config):
    """As pretraining, from the weights of an earlier stage."""

    model: str | None = None
    weights: Literal["noise"] = "noise"


def run(session: Session, config: Config, recipe: Recipe) -> dict[str, Any]:
    outputs = s2_pretrain.fit(session, config, recipe, load_model(session, config.source))
    read = {"tasks": f"{len(config.tasks)} families", "samples": f"what {' and '.join(config.samples)} kept"}
    return {**outputs, "bought": ", ".join(read.get(kind, kind) for kind, share in config.shares.items() if share)}


plan = s2_pretrain.plan
