"""Stage 4: supervised fine-tuning, the cold start: worked solutions and conversation, loss on the assistant's
tokens.

Prose rows go on beside them (`shares.prose`), so that what pretraining taught is not forgotten.
"""

from typing import Literal

from nomoat.stages import fit
from nomoat.stages.models import stored
from nomoat.stages.recipe import Fields, Recipe
from nomoat.train.session import Session


class Config(fit.Config):
    """As pretraining, from the weights of an earlier stage."""

    model: str | None = None
    weights: Literal["noise"] = "noise"


def run(session: Session, config: Config, recipe: Recipe) -> Fields:
    outputs = fit.fit(session, config, recipe, stored(session, config.source))
    read = {"tasks": f"{len(config.tasks)} families", "samples": f"what {' and '.join(config.samples)} kept"}
    return {
        **outputs,
        "bought": ", ".join(read.get(kind, kind) for kind, share in config.shares.items() if share),
    }


plan = fit.plan
