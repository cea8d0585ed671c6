"""Stage 3: a longer context by YaRN (V3 report, section 4.3): stretch the rotation, train on for a few long rows."""

from typing import Any

from nomoat.config import ConfigError
from nomoat.model.spec import Yarn
from nomoat.stages import s2_pretrain
from nomoat.stages.common import load_model, load_tokenizer, save_model, spec_of, to_device
from nomoat.stages.recipe import Recipe
from nomoat.train.loop import Session

LEAVES_WEIGHTS = True


class Config(s2_pretrain.Config):
    """As pretraining, in rows of the new `context`."""

    context: int
    mscale: float = 1.0
    mscale_all_dim: float = 1.0


def run(session: Session, config: Config, recipe: Recipe) -> dict[str, Any]:
    tokenizer = load_tokenizer(session.run)
    short = spec_of(session, config.source)
    if config.context <= short.context:
        raise ConfigError(f"`{config.name}.context` = {config.context}; expected more than the {short.context} so far")
    yarn = Yarn(
        factor=config.context / short.context, original_context=short.context, mscale=config.mscale,
        mscale_all_dim=config.mscale_all_dim,
    )  # fmt: skip
    long = short.model_copy(update={"yarn": yarn, "context": config.context})
    model = to_device(load_model(session, config.source, long), session, config.precision)
    data = s2_pretrain.prepare(session, config, recipe, tokenizer)
    optimizer = s2_pretrain.fit(session, config, model, data)
    outputs = save_model(session, model, optimizer, tokenizer)
    return {**outputs, "bought": f"context {short.context} to {config.context}"}


plan = s2_pretrain.plan
