"""Stage 2: next-token training on prose and worked tasks, of a new model or on from given weights."""

from nomoat.model import counts
from nomoat.model.transformer import Transformer
from nomoat.stages import fit
from nomoat.stages.models import load_model, load_tokenizer, new_spec
from nomoat.stages.recipe import Fields, Recipe
from nomoat.train.session import Session


class Config(fit.Config):
    """See fit.py."""


def run(session: Session, config: Config, recipe: Recipe) -> Fields:
    begin = _further if config.model in recipe.given else _new
    return begin(session, config, recipe)


def _new(session: Session, config: Config, recipe: Recipe) -> Fields:
    spec = new_spec(session, recipe.model(config.model), load_tokenizer(session.run))
    model = Transformer(spec, recipe.kernels).initialise(recipe.key(config.name, "weights"))
    outputs = fit.fit(session, config, recipe, model, fresh=True)
    return {**outputs, "bought": f"{counts.params_total(model.spec) / 1e6:.2f} M parameters"}


def _further(session: Session, config: Config, recipe: Recipe) -> Fields:
    model = load_model(session, config.source)
    outputs = fit.fit(session, config, recipe, model)
    source = recipe.given[config.model]
    return {**outputs, "bought": f"{config.steps} steps more of {source}"}


plan = fit.plan
