"""Stage 2: next-token training on prose and worked tasks."""

from nomoat.model import counts
from nomoat.model.transformer import Transformer
from nomoat.stages import fit
from nomoat.stages.recipe import Fields, Recipe
from nomoat.train.session import Session


class Config(fit.Config):
    """See fit.py."""


def run(session: Session, config: Config, recipe: Recipe) -> Fields:
    model = Transformer(recipe.model(config.model), recipe.kernels).initialise(
        recipe.key(config.name, "weights")
    )
    outputs = fit.fit(session, config, recipe, model, fresh=True)
    return {**outputs, "bought": f"{counts.params_total(model.spec) / 1e6:.2f} M parameters"}


plan = fit.plan
