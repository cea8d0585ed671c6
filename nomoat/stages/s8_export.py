"""Stage 8: a Hugging Face directory that stock `transformers` opens without remote code, and proof that it
holds."""

from pathlib import Path

import torch

from nomoat.config import WeightsError
from nomoat.model import counts
from nomoat.model.transformer import Transformer
from nomoat.run.directory import Run
from nomoat.run.log import last_scores
from nomoat.stages.models import load_model, load_tokenizer
from nomoat.stages.recipe import Fields, Recipe, StageConfig
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.session import Session, Work
from nomoat.weights import directory as weights

CARD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# {recipe.name} / {name}

A DeepSeek-V3-shaped model with {total:,} parameters ({active:,} active),
trained by the nomoat recipe `{recipe.name}` (seed {recipe.seed}).

It knows short worked tasks in English and German and little else; do not rely on what it says.

| score | value | 95 % interval | n |
|---|---|---|---|
"""


class Config(StageConfig):
    """`models` are the stages whose weights are exported, each into a directory of its own; by default the
    last."""

    models: list[str] = []


def run(session: Session, config: Config, recipe: Recipe) -> Fields:
    tokenizer = load_tokenizer(session.run)
    names = config.models or [config.source]
    for name in names:
        with Work(session, f"export {name}"), torch.inference_mode():
            model = without_depths(load_model(session, name)).eval()
            directory = session.directory / name
            if session.leads:
                text = card(session.run, recipe, name, model)
                weights.save(model, directory, tokenizer=tokenizer, card=text)
            session.mesh.barrier()
            prove(model, directory, name, tokenizer)
    exports = [f"{session.stage}/{name}" for name in names]
    return {"exports": exports, "bought": f"{len(exports)} directories"}


def prove(model: Transformer, directory: Path, name: str, tokenizer: Tokenizer) -> None:
    """WeightsError unless what was written gives the same logits."""
    ids_BT = torch.tensor([[tokenizer.layout.bos_id, *tokenizer.encode("The lamp is on. Die Lampe ist an.")]])
    error = float((weights.load(directory, model.kernels)(ids_BT) - model(ids_BT)).abs().max())
    if error != 0:
        raise WeightsError(
            f"{directory} gives other logits than {name} (by {error}); expected equal; report this"
        )


def without_depths(model: Transformer) -> Transformer:
    """The main model alone: stock loaders do not know the extra prediction depths of small models."""
    if not model.depths:
        return model
    plain = Transformer(model.spec.model_copy(update={"n_mtp": 0}), model.kernels)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("depths.")})
    return plain


def card(run: Run, recipe: Recipe, name: str, model: Transformer) -> str:
    """The model card: what it is, what it was trained on, what it scored, measured by this run."""
    total, active = counts.params_total(model.spec), counts.params_active(model.spec)
    head = CARD.format(recipe=recipe, name=name, total=total, active=active)
    scores = last_scores(event for event in run.events("score") if event.get("model") == name)
    return head + "".join(row(event) for event in scores)


def row(event: Fields) -> str:
    place = f" {event['family']}/{event['level']}" if event.get("family") else ""
    interval = f"{event['low']:.3f} to {event['high']:.3f}" if event.get("low") is not None else ""
    return f"| {event['name']}{place} | {event['value']:.4f} | {interval} | {event.get('n', '')} |\n"


def plan(config: Config, recipe: Recipe) -> Fields:
    return {"directories": len(config.models) or 1}
