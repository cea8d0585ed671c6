"""Stage 4: supervised fine-tuning, the cold start: worked solutions and conversation, loss on the assistant's
tokens.

Prose rows go on beside them (`shares.prose`), so that what pretraining taught is not forgotten.
"""

from typing import Literal

from pydantic import model_validator

from nomoat.config import Share
from nomoat.stages import fit
from nomoat.stages.models import stored
from nomoat.stages.recipe import Fields, Recipe
from nomoat.train.session import Session


class Config(fit.Config):
    """As pretraining, from the weights of an earlier stage.

    `until` ends it before its `steps` are done, as soon as the model gives an answer with that probability,
    all of its tokens (learnt.py): a cold start that leaves something to reinforcement.
    """

    model: str | None = None
    weights: Literal["noise"] = "noise"
    until: Share | None = None

    @model_validator(mode="after")
    def _of_answers(self):
        if self.until is not None and self.shares.get("prose"):
            raise ValueError(
                f"until = {self.until} beside shares.prose: whole texts have no such probability; expected "
                "documents with answers alone; leave one of them out"
            )
        return self


def run(session: Session, config: Config, recipe: Recipe) -> Fields:
    outputs = fit.fit(session, config, recipe, stored(session, config.source), until=config.until)
    read = [kind for kind, share in config.shares.items() if share]
    return {**outputs, "bought": ", ".join(bought(config, kind) for kind in read)}


def bought(config: Config, kind: str) -> str:
    """A kind of document that was learnt, in words."""
    if kind == "samples":
        return f"what {' and '.join(config.samples)} kept"
    n = len(config.tasks)
    families = "1 family" if n == 1 else f"{n} families"
    return families if kind == "tasks" else kind


plan = fit.plan
