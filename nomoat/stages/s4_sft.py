"""Stage 4: supervised fine-tuning, the cold start: worked solutions and conversation, loss on the assistant's tokens.

Prose rows go on beside them (`shares.prose`), so that what pretraining taught is not forgotten.
"""

from typing import Any

from nomoat.stages import s2_pretrain
from nomoat.stages.common import load_model, load_tokenizer, save_model, to_device
from nomoat.stages.recipe import Recipe
from nomoat.train.loop import Session

LEAVES_WEIGHTS = True


class Config(s2_pretrain.Config):
    """As pretraining, from the weights of an earlier stage."""

    model: str | None = None


def run(session: Session, config: Config, recipe: Recipe) -> dict[str, Any]:
    tokenizer = load_tokenizer(session.run)
    model = to_device(load_model(session, config.source), session, config.precision)
    data = s2_pretrain.prepare(session, config, recipe, tokenizer)
    optimizer = s2_pretrain.fit(session, config, model, data)
    outputs = save_model(session, model, optimizer, tokenizer)
    read = {"tasks": f"{len(config.tasks)} families", "samples": f"what {' and '.join(config.samples)} kept"}
    return {**outputs, "bought": ", ".join(read.get(kind, kind) for kind, share in config.shares.items() if share)}


plan = s2_pretrain.plan
