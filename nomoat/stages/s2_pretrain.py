"""Stage 2: next-token training on prose and worked tasks, of a new model or on from given weights."""

from nomoat.model import counts
from nomoat.stages import fit
from nomoat.stages.begin import new
from nomoat.stages.models import load_tokenizer, new_spec, stored
from nomoat.stages.recipe import Fields, Recipe
from nomoat.train.session import Session


class Config(fit.Config):
    """See fit.py."""


def run(session: Session, config: Config, recipe: Recipe) -> Fields:
    begin = _further if config.model in recipe.given else _new
    return begin(session, config, recipe)


def _new(session: Session, config: Config, recipe: Recipe) -> Fields:
    spec = new_spec(session, recipe.model(config.model), load_tokenizer(session.run))
    start = new(spec, recipe.kernels, recipe.key(config.name, "weights"))
    outputs = fit.fit(session, config, recipe, start, fresh=True)
    return {**outputs, "bought": f"{counts.params_total(spec) / 1e6:.2f} M parameters"}


def _further(session: Session, config: Config, recipe: Recipe) -> Fields:
    outputs = fit.fit(session, config, recipe, stored(session, config.source))
    source = recipe.given[config.model]
    return {**outputs, "bought": f"{config.steps} steps more of {source}"}


plan = fit.plan
