"""Stage 8: a Hugging Face directory that stock `transformers` opens without remote code, and proof that it holds."""

from typing import Any

import torch

from nomoat.config import WeightsError
from nomoat.files import shipped
from nomoat.model import counts
from nomoat.model.transformer import Transformer
from nomoat.run.log import last_scores
from nomoat.stages.models import load_model, load_tokenizer
from nomoat.stages.recipe import Recipe, StageConfig
from nomoat.train.session import Session, Work
from nomoat.weights import directory as weights


class Config(StageConfig):
    """`models` are the stages whose weights are exported, each into a directory of its own; by default the last."""

    models: list[str] = []


def run(session: Session, config: Config, recipe: Recipe) -> dict[str, Any]:
    tokenizer = load_tokenizer(session.run)
    names = config.models or [config.source]
    for name in names:
        with Work(session, f"export {name}"), torch.inference_mode():
            model = without_depths(load_model(session, name)).eval()
            directory = session.run.stage_dir(session.stage) / name
            if session.leads:
                weights.save(model, directory, tokenizer=tokenizer, card=card(session, recipe, name, model))
            session.mesh.barrier()
            ids_BT = torch.tensor([[tokenizer.layout.bos_id, *tokenizer.encode("The lamp is on. Die Lampe ist an.")]])
            error = float((weights.load(directory, model.kernels)(ids_BT) - model(ids_BT)).abs().max())
            if error != 0:
                raise WeightsError(f"{directory} gives other logits than {name} (by {error}); expected equal; report this")
    return {"exports": [f"{session.stage}/{name}" for name in names], "bought": f"{len(names)} directories"}


def without_depths(model: Transformer) -> Transformer:
    """The main model alone: stock loaders do not know the extra prediction depths of small models."""
    if not model.depths:
        return model
    plain = Transformer(model.spec.model_copy(update={"n_mtp": 0}), model.kernels)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("depths.")})
    return plain


def card(session: Session, recipe: Recipe, name: str, model: Transformer) -> str:
    """The model card: what it is, what it was trained on, what it scored, measured by this run."""
    total, active = counts.params_total(model.spec), counts.params_active(model.spec)
    lines = [shipped(__file__)["card"].format(recipe=recipe, name=name, total=total, active=active)]
    for event in last_scores(e for e in session.run.events("score") if e.get("model") == name):
        place = f" {event['family']}/{event['level']}" if event.get("family") else ""
        interval = f"{event['low']:.3f} to {event['high']:.3f}" if event.get("low") is not None else ""
        lines.append(f"| {event['name']}{place} | {event['value']:.4f} | {interval} | {event.get('n', '')} |")
    return "\n".join(lines) + "\n"


def plan(config: Config, recipe: Recipe) -> dict[str, Any]:
    return {"directories": len(config.models) or 1}
