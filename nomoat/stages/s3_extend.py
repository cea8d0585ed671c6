"""Stage 3: a longer context by YaRN (V3 report, section 4.3): stretch the rotation, train on for a few long
rows."""

from typing import Literal

from pydantic import Field

from nomoat.model.spec import Scale, Yarn
from nomoat.stages import fit, limits
from nomoat.stages.models import spec_of, stored
from nomoat.stages.recipe import Fields, Recipe
from nomoat.train.session import Session


class Config(fit.Config):
    """As pretraining, in rows of the new `context`."""

    context: int = Field(ge=2, le=fit.LONGEST)
    weights: Literal["noise"] = "noise"
    mscale: Scale = 1.0
    mscale_all_dim: Scale = 1.0


def run(session: Session, config: Config, recipe: Recipe) -> Fields:
    short = spec_of(session, config.source)
    limits.check_longer(config.name, config.context, short.context)
    yarn = Yarn(
        factor=config.context / short.context,
        original_context=short.context,
        mscale=config.mscale,
        mscale_all_dim=config.mscale_all_dim,
    )
    long = short.model_copy(update={"stretch": yarn, "context": config.context})
    outputs = fit.fit(session, config, recipe, stored(session, config.source, long))
    return {**outputs, "bought": f"context {short.context} to {config.context}"}


plan = fit.plan
